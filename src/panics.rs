//! Calls into libraries that panic on unusual input.

use std::{
    any::Any,
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
};

thread_local! {
    static EXPECTS_PANICS: Cell<bool> = const { Cell::new(false) };
}

/// Calls a library that panics on unusual input. The panic message is returned rather than printed.
pub(crate) fn expecting_panics<T>(call: impl FnOnce() -> T) -> std::thread::Result<T> {
    EXPECTS_PANICS.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(call));
    EXPECTS_PANICS.set(false);
    outcome
}

/// Whether a panic on this thread is expected, and handled by the caller.
pub(crate) fn expects_panics() -> bool {
    EXPECTS_PANICS.get()
}

/// The message of a panic.
pub fn words_of_panic(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_else(|| "a panic".to_owned())
}
