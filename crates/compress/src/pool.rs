//! Contexts that are dear to make and can be used again.

use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Contexts that no thread uses at the moment. There are never more than threads that were busy at once.
pub(crate) struct Pool<T> {
    idle: Mutex<Vec<T>>,
}

impl<T> Pool<T> {
    pub(crate) const fn new() -> Self {
        Self { idle: Mutex::new(Vec::new()) }
    }

    /// Lends a context, a new one if all are in use. One that was there when an error happened is not used again.
    pub(crate) fn lend<R, E>(
        &self,
        make: impl FnOnce() -> Result<T, E>,
        work: impl FnOnce(&mut T) -> Result<R, E>,
    ) -> Result<R, E> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut context = idle.map_or_else(make, Ok)?;
        let result = work(&mut context)?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(context);
        Ok(result)
    }
}

impl<T> fmt::Debug for Pool<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Pool")
    }
}
