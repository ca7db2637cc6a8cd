//! A log of requests, for tests that count them. Off until somebody asks for it.

use std::sync::{Mutex, PoisonError};

/// One answered request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// HTTP method.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// Query, as sent.
    pub query: String,
    /// Who asked.
    pub user: String,
    /// HTTP status of the answer.
    pub status: u16,
    /// Bytes of the request's body.
    pub body: usize,
}

/// The log.
#[derive(Debug, Default)]
pub struct Log(Mutex<Option<Vec<LogEntry>>>);

impl Log {
    /// Starts logging, with an empty log.
    pub fn start(&self) {
        *self.lock() = Some(Vec::new());
    }

    /// Everything since the start.
    #[must_use]
    pub fn entries(&self) -> Vec<LogEntry> {
        self.lock().clone().unwrap_or_default()
    }

    pub(super) fn add(&self, entry: impl FnOnce() -> LogEntry) {
        if let Some(entries) = self.lock().as_mut() {
            entries.push(entry());
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Vec<LogEntry>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
