//! Values for Postgres that borrow what they are made of. They become datums only where Postgres reads them (datum.rs), so a
//! datum cannot outlive its bytes. Pure, so that kijko_ext/model can prove that the wrong use does not compile:
//!
//! ```compile_fail,E0716
//! use kijko_model::value::Value;
//! let id = Value::from(&[7; 16].map(u8::swap_bytes)); // the array is gone at the end of this statement
//! drop(id);
//! ```
//!
//! ```
//! use kijko_model::value::Value;
//! let bytes = [7; 16].map(u8::swap_bytes);
//! drop(Value::from(&bytes));
//! ```

use std::marker::PhantomData;

/// A column, an argument or a key of a scan.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    Null,
    /// Also a smaller integer, a boolean, an oid, and a timestamptz in Postgres microseconds.
    Integer(i64),
    Uuid(&'a [u8; 16]),
    Text(&'a str),
    Bytes(&'a [u8]),
    Held(Held<'a>),
}

/// The datum of a value that Postgres holds for the lifetime: an argument of a call, or what a function of Postgres made of one.
#[derive(Clone, Copy)]
pub struct Held<'a> {
    datum: usize,
    lifetime: PhantomData<&'a ()>,
}

impl Held<'_> {
    /// # Safety
    /// What the datum points to lives as long as the lifetime that the caller gives it.
    pub unsafe fn new(datum: usize) -> Self {
        Self {
            datum,
            lifetime: PhantomData,
        }
    }

    pub fn datum(self) -> usize {
        self.datum
    }
}

impl From<i64> for Value<'_> {
    fn from(integer: i64) -> Self {
        Self::Integer(integer)
    }
}

impl From<i32> for Value<'_> {
    fn from(integer: i32) -> Self {
        Self::Integer(integer.into())
    }
}

impl From<bool> for Value<'_> {
    fn from(boolean: bool) -> Self {
        Self::Integer(boolean.into())
    }
}

impl<'a> From<&'a [u8; 16]> for Value<'a> {
    fn from(uuid: &'a [u8; 16]) -> Self {
        Self::Uuid(uuid)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<Held<'a>> for Value<'a> {
    fn from(held: Held<'a>) -> Self {
        Self::Held(held)
    }
}

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
