//! UUIDs of version 7: milliseconds, their fraction in 12 bits, and 62 random bits. Rows with such a key that are written together
//! are neighbours in its index.

use crate::clock;

/// Of a time in Postgres microseconds. Whoever must not guess the next one needs unpredictable bits.
pub fn new(at: i64, random: u64) -> [u8; 16] {
    let unix = clock::unix_micros(at) as u64;
    let high = (unix / 1_000) << 16 | 7 << 12 | (unix % 1_000 * 4_096 / 1_000);
    let low = 0b10 << 62 | random >> 2;
    (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
}
