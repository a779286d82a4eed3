//! Random numbers. They are never drawn in the postmaster: what it had drawn, or the state of a generator that it had seeded, all
//! processes that it forks would inherit. Nothing else of the extension draws any, except cryptographic libraries, which
//! notice a fork.

use pgrx::prelude::*;

/// Unpredictable bytes. An error in the postmaster.
pub fn fill(bytes: &mut [u8]) {
    // SAFETY: reads variables.
    if unsafe { pg_sys::IsPostmasterEnvironment && !pg_sys::IsUnderPostmaster } {
        error!("random numbers must not be drawn before a fork");
    }
    // SAFETY: writes as many bytes as there are.
    if !unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), bytes.len()) } {
        error!("the server has no random numbers");
    }
}

pub fn words() -> [u64; 2] {
    let mut bytes = [0; 16];
    fill(&mut bytes);
    let value = u128::from_ne_bytes(bytes);
    [value as u64, (value >> 64) as u64]
}

/// From 0 to 1, evenly.
pub fn unit() -> f64 {
    (words()[0] >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod unit {
    use std::fs;
    use std::path::Path;

    /// Another generator could be seeded in the postmaster, and nobody would notice.
    #[test]
    fn nothing_else_draws_random_numbers() {
        let mut found = Vec::new();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        visit(&source, &mut |path, text| {
            for name in ["pg_strong_random(", "getrandom", "thread_rng", "pg_prng"] {
                if text.contains(name) && !path.ends_with("pg/random.rs") {
                    found.push(format!("{}: {name}", path.display()));
                }
            }
        });
        assert!(found.is_empty(), "{found:?}");
    }

    fn visit(folder: &Path, each: &mut impl FnMut(&Path, &str)) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(&path, each);
            } else if path.extension().is_some_and(|end| end == "rs") {
                each(&path, &fs::read_to_string(&path).unwrap());
            }
        }
    }
}
