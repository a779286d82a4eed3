//! HyperLogLog with 4,096 registers: the standard error is 1.04 / √4096 = 1.6 %. The estimator is Ertl's (arXiv:1702.01284,
//! algorithm 6), which has no bias for small sets and needs no tables. Small sets are kept as a list of their registers.

const PRECISION: u32 = 12;
const REGISTERS: usize = 1 << PRECISION;
/// The bits of a hash that a rank is taken from.
const RANK_BITS: u32 = 64 - PRECISION;
const MAX_RANK: u8 = RANK_BITS as u8 + 1;
/// A list of more entries takes more than a third of the registers' bytes.
const MAX_SPARSE: usize = 512;

/// The first byte of a stored sketch.
const SPARSE: u8 = 1;
const DENSE: u8 = 2;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Sketch {
    /// Index and rank of registers that are not 0, by index.
    Sparse(Vec<(u16, u8)>),
    Dense(Box<[u8; REGISTERS]>),
}

impl Default for Sketch {
    fn default() -> Self {
        Self::Sparse(Vec::new())
    }
}

impl Sketch {
    pub fn add(&mut self, element: &[u8; 16]) {
        let hash = hash(element);
        let index = (hash >> RANK_BITS) as u16;
        // The lowest bit ends the zeros of a hash that has nothing else.
        let rank = ((hash << PRECISION) | 1 << (PRECISION - 1)).leading_zeros() as u8 + 1;
        self.raise(index, rank);
    }

    pub fn merge(&mut self, other: &Self) {
        match other {
            Self::Sparse(entries) => {
                for &(index, rank) in entries {
                    self.raise(index, rank);
                }
            }
            Self::Dense(theirs) => {
                let ours = self.dense();
                for (our, &their) in ours.iter_mut().zip(theirs.iter()) {
                    *our = (*our).max(their);
                }
            }
        }
    }

    fn raise(&mut self, index: u16, rank: u8) {
        let registers = match self {
            Self::Dense(registers) => registers,
            Self::Sparse(entries) => {
                match entries.binary_search_by_key(&index, |entry| entry.0) {
                    Ok(place) => {
                        entries[place].1 = entries[place].1.max(rank);
                        return;
                    }
                    Err(place) if entries.len() < MAX_SPARSE => {
                        entries.insert(place, (index, rank));
                        return;
                    }
                    Err(_) => {}
                }
                self.dense()
            }
        };
        let register = &mut registers[usize::from(index)];
        *register = (*register).max(rank);
    }

    fn dense(&mut self) -> &mut [u8; REGISTERS] {
        if let Self::Sparse(entries) = self {
            let mut registers = Box::new([0; REGISTERS]);
            for &(index, rank) in entries.iter() {
                registers[usize::from(index)] = rank;
            }
            *self = Self::Dense(registers);
        }
        match self {
            Self::Dense(registers) => registers,
            Self::Sparse(_) => unreachable!("it has just become dense"),
        }
    }

    pub fn cardinality(&self) -> i64 {
        let mut counts = [0_u32; MAX_RANK as usize + 1];
        match self {
            Self::Sparse(entries) => {
                counts[0] = (REGISTERS - entries.len()) as u32;
                for &(_, rank) in entries {
                    counts[usize::from(rank)] += 1;
                }
            }
            Self::Dense(registers) => {
                for &rank in registers.iter() {
                    counts[usize::from(rank)] += 1;
                }
            }
        }
        estimate(&counts).round() as i64
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Sparse(entries) => {
                let mut bytes = Vec::with_capacity(1 + 3 * entries.len());
                bytes.push(SPARSE);
                for &(index, rank) in entries {
                    bytes.extend_from_slice(&index.to_be_bytes());
                    bytes.push(rank);
                }
                bytes
            }
            Self::Dense(registers) => {
                let mut bytes = Vec::with_capacity(1 + REGISTERS);
                bytes.push(DENSE);
                bytes.extend_from_slice(&registers[..]);
                bytes
            }
        }
    }

    /// None: these bytes are no sketch.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&kind, rest) = bytes.split_first()?;
        match kind {
            SPARSE => {
                let entries: Vec<(u16, u8)> = rest
                    .chunks(3)
                    .map(|entry| match *entry {
                        [high, low, rank] => Some((u16::from_be_bytes([high, low]), rank)),
                        _ => None,
                    })
                    .collect::<Option<_>>()?;
                let is_sound = entries.len() <= MAX_SPARSE
                    && entries.is_sorted_by(|a, b| a.0 < b.0)
                    && entries.iter().all(|&(index, rank)| {
                        usize::from(index) < REGISTERS && (1..=MAX_RANK).contains(&rank)
                    });
                is_sound.then_some(Self::Sparse(entries))
            }
            DENSE => {
                let registers: [u8; REGISTERS] = rest.try_into().ok()?;
                let is_sound = registers.iter().all(|&rank| rank <= MAX_RANK);
                is_sound.then(|| Self::Dense(Box::new(registers)))
            }
            _ => None,
        }
    }
}

/// Of how many registers have each rank.
fn estimate(counts: &[u32; MAX_RANK as usize + 1]) -> f64 {
    let m = REGISTERS as f64;
    let last = usize::from(MAX_RANK);
    let mut z = m * tau(1.0 - f64::from(counts[last]) / m);
    for &count in counts[1..last].iter().rev() {
        z = 0.5 * (z + f64::from(count));
    }
    z += m * sigma(f64::from(counts[0]) / m);
    m * m / (2.0 * std::f64::consts::LN_2 * z)
}

fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z <= before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if z >= before {
            return z / 3.0;
        }
    }
}

/// Mixes all 128 bits (the finalizer of MurmurHash3, twice): the bits of a UUID are not all random.
fn hash(element: &[u8; 16]) -> u64 {
    let bits = u128::from_be_bytes(*element);
    mix((bits >> 64) as u64 ^ mix(bits as u64 ^ 0x9e37_79b9_7f4a_7c15))
}

fn mix(mut h: u64) -> u64 {
    h ^= h >> 33;
    h = h.wrapping_mul(0xff51_afd7_ed55_8ccd);
    h ^= h >> 33;
    h = h.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ h >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(elements: std::ops::Range<u128>) -> Sketch {
        let mut sketch = Sketch::default();
        for element in elements {
            sketch.add(&element.to_be_bytes());
        }
        sketch
    }

    #[test]
    fn the_error_stays_below_four_standard_errors() {
        assert_eq!(Sketch::default().cardinality(), 0);
        for n in [1, 2, 10, 100, 500, 1_000, 5_000, 20_000, 100_000, 1_000_000] {
            let counted = of(0..n).cardinality();
            let error = (counted as f64 - n as f64).abs() / n as f64;
            assert!(error < 0.065, "{n}: {counted}");
            assert!(n > 10 || counted == n as i64, "{n}: {counted}");
        }
    }

    #[test]
    fn a_union_counts_common_elements_once_in_any_order() {
        for (one, other) in [
            (0..100, 50..150),
            (0..100, 0..9_000),
            (0..60_000, 30_000..90_000),
        ] {
            let whole = of(one.start.min(other.start)..one.end.max(other.end));
            let (mut left, mut right) = (of(one.clone()), of(other.clone()));
            left.merge(&of(other));
            right.merge(&of(one));
            assert_eq!(left.cardinality(), whole.cardinality());
            assert_eq!(right.cardinality(), whole.cardinality());
        }
    }

    #[test]
    fn bytes_are_read_back_and_others_refused() {
        for n in [0, 3, 400, 2_000] {
            let sketch = of(0..n);
            assert_eq!(Sketch::from_bytes(&sketch.to_bytes()), Some(sketch));
        }
        let mut rank = of(0..2_000).to_bytes();
        rank[7] = 54;
        for bad in [
            &[][..],
            &[3],
            &[SPARSE, 0],
            &[SPARSE, 0, 1, 0],
            &[SPARSE, 16, 0, 1],
            &[SPARSE, 0, 2, 1, 0, 2, 1],
            &[DENSE, 1, 2],
            &rank,
        ] {
            assert_eq!(Sketch::from_bytes(bad), None, "{bad:?}");
        }
    }
}
