//! Panics anywhere in the process. tokio catches those of its tasks, so that without this nobody would hear of them.

use super::lock;
use std::{
    panic,
    sync::{Mutex, Once},
};

static FIRST: Mutex<Option<String>> = Mutex::new(None);

/// From now on panics are remembered, beside being printed.
pub(crate) fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            lock(&FIRST).get_or_insert_with(|| info.to_string());
            before(info);
        }));
    });
}

/// The first panic since the last call.
pub(crate) fn take() -> Option<String> {
    lock(&FIRST).take()
}
