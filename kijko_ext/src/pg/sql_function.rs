//! SQL functions that can fail with a code of our own. pgrx cannot raise an SQLSTATE that it does not know, so these
//! functions are declared by hand. Their guarded part returns either a value or a prepared call of a plpgsql function that
//! raises. The outermost frame owns nothing that an error would leak, and makes that call.

use std::marker::PhantomData;
use std::mem::size_of;

use pgrx::prelude::*;

use super::datum;
use super::value::Held;

/// The arguments of a call. What is made of them lives as long as the call.
#[derive(Clone, Copy)]
pub struct Arguments<'call> {
    call: pg_sys::FunctionCallInfo,
    lifetime: PhantomData<&'call ()>,
}

impl<'call> Arguments<'call> {
    /// The call itself.
    pub fn call(self) -> pg_sys::FunctionCallInfo {
        self.call
    }

    fn datum(self, at: usize) -> Option<pg_sys::Datum> {
        // SAFETY: SQL declares as many arguments as are read.
        let argument = unsafe { &*(*self.call).args.as_ptr().add(at) };
        (!argument.isnull).then_some(argument.value)
    }

    /// An argument as it is.
    pub fn held(self, at: usize) -> Option<Held<'call>> {
        // SAFETY: arguments live as long as the call.
        self.datum(at)
            .map(|datum| unsafe { Held::new(datum.value()) })
    }

    /// Also a timestamptz, in Postgres microseconds.
    pub fn integer(self, at: usize) -> Option<i64> {
        self.datum(at).map(|datum| datum.value() as i64)
    }

    pub fn uuid(self, at: usize) -> Option<[u8; 16]> {
        // SAFETY: declared as uuid, which is sixteen bytes by reference and never compressed.
        self.datum(at)
            .map(|datum| unsafe { datum.cast_mut_ptr::<[u8; 16]>().read() })
    }

    pub fn text(self, at: usize) -> Option<&'call str> {
        // SAFETY: declared as text; it lives as long as the call.
        self.datum(at)
            .and_then(|datum| unsafe { <&str>::from_datum(datum, false) })
    }

    pub fn uuids(self, at: usize) -> Option<Vec<Option<[u8; 16]>>> {
        let datum = self.datum(at)?;
        // SAFETY: declared as uuid[].
        let array = unsafe { pgrx::Array::<pgrx::Uuid>::from_datum(datum, false) }?;
        Some(
            array
                .iter()
                .map(|uuid| uuid.map(|uuid| *uuid.as_bytes()))
                .collect(),
        )
    }

    pub fn integers(self, at: usize) -> Option<Vec<Option<i64>>> {
        let datum = self.datum(at)?;
        // SAFETY: declared as bigint[].
        let array = unsafe { pgrx::Array::<i64>::from_datum(datum, false) }?;
        Some(array.iter().collect())
    }

    pub fn texts(self, at: usize) -> Option<Vec<Option<String>>> {
        let datum = self.datum(at)?;
        // SAFETY: declared as text[].
        let array = unsafe { pgrx::Array::<String>::from_datum(datum, false) }?;
        Some(array.iter().collect())
    }

    pub fn null(self) -> pg_sys::Datum {
        // SAFETY: the call is ours.
        unsafe { (*self.call).isnull = true };
        pg_sys::Datum::null()
    }
}

/// The error that a call ends in: the SQL function that raises it, and its arguments.
pub struct Refusal {
    function: &'static str,
    arguments: Vec<Argument>,
}

/// An argument of a refusal. It owns what it says, because it outlives the frames that know it.
pub enum Argument {
    Null,
    Integer(i64),
    Text(String),
    /// A composite value as Postgres lays it out.
    Row(Vec<u8>),
}

impl Argument {
    /// # Safety
    /// The datum of a composite value that was formed in memory.
    pub unsafe fn row(row: pg_sys::Datum) -> Self {
        // SAFETY: a varlena with a header of four bytes.
        unsafe {
            let row: *mut pg_sys::varlena = row.cast_mut_ptr();
            let size = pgrx::varlena::varsize_any(row);
            Self::Row(std::slice::from_raw_parts(row.cast(), size).to_vec())
        }
    }

    /// In the current memory context.
    fn datum(&self) -> Option<pg_sys::Datum> {
        match self {
            Self::Null => None,
            Self::Integer(integer) => Some(pg_sys::Datum::from(*integer)),
            Self::Text(text) => Some(datum::text_datum(text)),
            // SAFETY: as many bytes as are copied; palloc aligns.
            Self::Row(row) => unsafe {
                let copy: *mut u8 = pg_sys::palloc(row.len()).cast();
                copy.copy_from_nonoverlapping(row.as_ptr(), row.len());
                Some(pg_sys::Datum::from(copy))
            },
        }
    }
}

impl From<i64> for Argument {
    fn from(integer: i64) -> Self {
        Self::Integer(integer)
    }
}

impl From<i32> for Argument {
    fn from(integer: i32) -> Self {
        Self::Integer(integer.into())
    }
}

impl From<&str> for Argument {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl<T: Into<Argument>> From<Option<T>> for Argument {
    fn from(argument: Option<T>) -> Self {
        argument.map_or(Self::Null, Into::into)
    }
}

impl Refusal {
    /// One of kijko.error_codes.
    pub fn new(code: &str, details: &str, hint: Option<&str>) -> Self {
        Self {
            function: "kijko.fail(pg_catalog.text,pg_catalog.text,pg_catalog.text)",
            arguments: vec![code.into(), details.into(), hint.into()],
        }
    }

    pub fn invalid(details: &str) -> Self {
        Self::new("invalid_input", details, None)
    }

    pub fn by(function: &'static str, arguments: Vec<Argument>) -> Self {
        Self {
            function,
            arguments,
        }
    }

    fn prepare(self) -> pg_sys::FunctionCallInfo {
        let function = find(self.function);
        // SAFETY: allocated zeroed and as large as the arguments need; its FmgrInfo is filled in by fmgr_info.
        unsafe {
            let size = size_of::<pg_sys::FunctionCallInfoBaseData>()
                + self.arguments.len() * size_of::<pg_sys::NullableDatum>();
            let call: pg_sys::FunctionCallInfo = pg_sys::palloc0(size).cast();
            let info: *mut pg_sys::FmgrInfo = pg_sys::palloc0(size_of::<pg_sys::FmgrInfo>()).cast();
            pg_sys::fmgr_info(function, info);
            (*call).flinfo = info;
            (*call).nargs = self.arguments.len() as i16;
            for (at, argument) in self.arguments.iter().enumerate() {
                let place = (*call).args.as_mut_ptr().add(at);
                let datum = argument.datum();
                (*place).value = datum.unwrap_or(pg_sys::Datum::null());
                (*place).isnull = datum.is_none();
            }
            call
        }
    }
}

/// The oid of a function by its full signature. An error when there is no such function.
pub fn find(signature: &str) -> pg_sys::Oid {
    let oid = datum::input(pg_sys::F_REGPROCEDUREIN, signature);
    pg_sys::Oid::from(oid.value() as u32)
}

pub type Answer = Result<pg_sys::Datum, Refusal>;

/// What the outermost frame does.
pub enum Outcome {
    Value(pg_sys::Datum),
    Raise(pg_sys::FunctionCallInfo),
}

/// Runs a function's body. Errors of Postgres and panics leave it as errors of Postgres.
pub unsafe fn guarded(body: fn(Arguments) -> Answer, call: pg_sys::FunctionCallInfo) -> Outcome {
    let arguments = Arguments {
        call,
        lifetime: PhantomData,
    };
    unsafe {
        pg_sys::panic::pgrx_extern_c_guard(|| match body(arguments) {
            Ok(value) => Outcome::Value(value),
            Err(refusal) => Outcome::Raise(refusal.prepare()),
        })
    }
}

/// Runs `body` in a hook of Postgres. Its refusal is raised by this frame, which owns nothing.
pub unsafe fn raise_refusal(body: impl FnOnce() -> Result<(), Refusal>) {
    // SAFETY: what is live across the raising call has no destructor.
    unsafe {
        let raise = pg_sys::panic::pgrx_extern_c_guard(|| body().err().map(Refusal::prepare));
        if let Some(raise) = raise
            && let Some(function) = (*(*raise).flinfo).fn_addr
        {
            function(raise);
        }
    }
}

/// Makes `body` callable from SQL as `symbol`.
macro_rules! sql_function {
    ($symbol:ident, $finfo:ident, $body:path) => {
        #[unsafe(no_mangle)]
        pub extern "C-unwind" fn $finfo() -> *const pgrx::pg_sys::Pg_finfo_record {
            const RECORD: pgrx::pg_sys::Pg_finfo_record =
                pgrx::pg_sys::Pg_finfo_record { api_version: 1 };
            &RECORD
        }

        /// # Safety
        /// Called by Postgres as SQL declares it.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $symbol(
            call: pgrx::pg_sys::FunctionCallInfo,
        ) -> pgrx::pg_sys::Datum {
            // SAFETY: what is live across the raising call has no destructor.
            unsafe {
                match $crate::pg::sql_function::guarded($body, call) {
                    $crate::pg::sql_function::Outcome::Value(value) => value,
                    $crate::pg::sql_function::Outcome::Raise(raise) => {
                        match (*(*raise).flinfo).fn_addr {
                            Some(function) => function(raise),
                            None => pgrx::pg_sys::Datum::null(),
                        }
                    }
                }
            }
        }
    };
}
pub(crate) use sql_function;
