//! Who may hold another of PostgREST's connections for as long as its plan allows. Each tenant may hold as many as it leaves
//! free: a lone one half of the pool, a second one half of the rest, and so on, so that a tenant that holds none finds one.
//! Tenants of free tiers cost nothing to make. So all of them together leave some connections to the others, and share only
//! what is left. Pure.

/// Of so many connections one is left to tenants of other tiers.
const RESERVED: usize = 5;

/// Connections that are held, without the request that is decided on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Held {
    pub total: usize,
    /// By tenants of free tiers.
    pub free_tiers: usize,
    /// By the tenant that wants another one.
    pub tenant: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConnectionPool {
    connections: usize,
}

impl ConnectionPool {
    /// None for no connections: then nothing is limited.
    pub fn new(connections: usize) -> Option<Self> {
        (connections > 0).then_some(Self { connections })
    }

    /// Whether a tenant may hold another connection.
    pub fn has_room(self, held: Held, is_free: bool) -> bool {
        let free = self.connections.saturating_sub(held.total);
        let free = match is_free {
            true => free.min(self.of_free_tiers().saturating_sub(held.free_tiers)),
            false => free,
        };
        held.tenant < free
    }

    fn of_free_tiers(self) -> usize {
        match self.connections {
            1 => 1,
            connections => connections - (connections / RESERVED).max(1),
        }
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    fn pool(connections: usize) -> ConnectionPool {
        ConnectionPool::new(connections).unwrap()
    }

    /// How many connections each tenant gets, when one after the other takes all that it may. True is a free tier.
    fn fill(connections: usize, tenants: &[bool]) -> Vec<usize> {
        let mut held = Held::default();
        let mut of_tenants = Vec::new();
        for is_free in tenants {
            held.tenant = 0;
            while pool(connections).has_room(held, *is_free) {
                held.tenant += 1;
                held.total += 1;
                held.free_tiers += usize::from(*is_free);
            }
            of_tenants.push(held.tenant);
        }
        of_tenants
    }

    #[test]
    fn a_tenant_holds_as_many_as_it_leaves_free() {
        assert_eq!(fill(10, &[false; 5]), [5, 3, 1, 1, 0]);
        assert_eq!(fill(20, &[false; 4]), [10, 5, 3, 1]);
        assert_eq!(fill(100, &[false]), [50]);
        assert_eq!(fill(2, &[false; 2]), [1, 1]);
    }

    #[test]
    fn free_tiers_together_leave_a_fifth_to_the_others() {
        assert_eq!(fill(10, &[true; 5]), [4, 2, 1, 1, 0]);
        for (connections, left) in [(2, 1), (3, 1), (5, 1), (10, 2), (14, 2), (20, 4), (100, 20)] {
            let held: usize = fill(connections, &[true; 100]).iter().sum();
            assert_eq!(held, connections - left);
        }
    }

    #[test]
    fn a_tenant_of_another_tier_finds_room_beside_all_free_ones() {
        let mut tenants = [true; 101];
        tenants[100] = false;
        for connections in [2, 3, 5, 10, 14, 20, 100] {
            assert!(fill(connections, &tenants)[100] > 0, "{connections}");
        }
    }

    #[test]
    fn one_connection_is_for_everybody() {
        assert_eq!(fill(1, &[true; 2]), [1, 0]);
        assert_eq!(ConnectionPool::new(0), None);
    }

    /// PostgREST has more than the setting says.
    #[test]
    fn beyond_the_pool_there_is_no_room() {
        let held = Held {
            total: 11,
            ..Held::default()
        };
        assert!(!pool(10).has_room(held, false));
    }
}
