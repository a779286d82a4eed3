//! Sums of arrays, element by element, by an aggregate: a histogram of 32 bins is one call for each row instead of 32 sums.

use pgrx::prelude::*;
use pgrx::{Array, Internal, PgMemoryContexts, PgSqlErrorCode};

/// The sum so far, in the aggregate's memory. A row without an array changes nothing.
#[pg_extern(immutable)]
fn array_sum_add(
    state: Internal,
    summand: Option<Array<'_, i64>>,
    call: pg_sys::FunctionCallInfo,
) -> Internal {
    add(state, summand, call)
}

#[pg_extern(immutable)]
fn array_sum_add_int(
    state: Internal,
    summand: Option<Array<'_, i32>>,
    call: pg_sys::FunctionCallInfo,
) -> Internal {
    add(state, summand, call)
}

/// Null when no row had an array.
#[pg_extern(immutable)]
fn array_sum_final(state: Internal) -> Option<Vec<i64>> {
    // SAFETY: only `add` makes states.
    unsafe { state.get::<Vec<i64>>() }.cloned()
}

fn add<T>(
    mut state: Internal,
    summand: Option<Array<'_, T>>,
    call: pg_sys::FunctionCallInfo,
) -> Internal
where
    T: Copy + Into<i64>,
    for<'a> Array<'a, T>: AsElements<T>,
{
    let Some(summand) = summand else { return state };
    let Some(summand) = summand.elements() else {
        refuse(
            PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            "an array to sum up has a null element",
        );
    };
    // SAFETY: only this function makes states.
    match unsafe { state.get_mut::<Vec<i64>>() } {
        Some(sums) => {
            if let Err((code, reason)) = add_elements(sums, summand) {
                refuse(code, reason);
            }
            state
        }
        None => {
            let sums: Vec<i64> = summand.iter().map(|&element| element.into()).collect();
            let sums = aggregate_memory(call).leak_and_drop_on_delete(sums);
            Internal::from(Some(pg_sys::Datum::from(sums)))
        }
    }
}

/// The elements as they lie in the array, which costs less than reading them one by one. None when one of them is null.
trait AsElements<T> {
    fn elements(&self) -> Option<&[T]>;
}

impl AsElements<i64> for Array<'_, i64> {
    fn elements(&self) -> Option<&[i64]> {
        self.as_slice().ok()
    }
}

impl AsElements<i32> for Array<'_, i32> {
    fn elements(&self) -> Option<&[i32]> {
        self.as_slice().ok()
    }
}

fn add_elements<T: Copy + Into<i64>>(
    sums: &mut [i64],
    summand: &[T],
) -> Result<(), (PgSqlErrorCode, &'static str)> {
    if sums.len() != summand.len() {
        return Err((
            PgSqlErrorCode::ERRCODE_ARRAY_ELEMENT_ERROR,
            "arrays to sum up differ in length",
        ));
    }
    for (sum, &element) in sums.iter_mut().zip(summand) {
        *sum = sum.checked_add(element.into()).ok_or((
            PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
            "a sum of array elements is out of range",
        ))?;
    }
    Ok(())
}

fn aggregate_memory(call: pg_sys::FunctionCallInfo) -> PgMemoryContexts {
    crate::pg::aggregate::memory(call).unwrap_or_else(|| {
        refuse(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "only the aggregate array_sum calls this function",
        )
    })
}

fn refuse(code: PgSqlErrorCode, reason: &'static str) -> ! {
    ereport!(ERROR, code, reason);
}

#[cfg(test)]
mod add_elements_tests {
    use super::*;

    #[test]
    fn each_element_is_added_to_its_own_sum() {
        let mut sums = vec![1, -2, i64::MAX - 1];
        assert!(add_elements(&mut sums, &[10_i32, 20, 1]).is_ok());
        assert_eq!(sums, [11, 18, i64::MAX]);
    }

    #[test]
    fn another_length_and_an_overflow_are_refused() {
        let code = |sums: &mut [i64], summand: &[i64]| add_elements(sums, summand).unwrap_err().0;
        assert_eq!(
            code(&mut [1, 2], &[1]),
            PgSqlErrorCode::ERRCODE_ARRAY_ELEMENT_ERROR
        );
        assert_eq!(
            code(&mut [i64::MAX], &[1]),
            PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE
        );
    }
}
