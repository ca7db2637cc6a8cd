//! Faults at the edge: a rule is asked about every request and says what goes wrong with it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use super::super::ApiStatus;

/// What a rule sees of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestInfo {
    /// Number of the request since the server began, from 1.
    pub number: u64,
    /// Who asks.
    pub user: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `apply`, `delete`, `deletecollection`;
    /// `other` for discovery and the like.
    pub verb: &'static str,
    /// API group.
    pub group: String,
    /// Plural resource name.
    pub resource: String,
    /// Subresource.
    pub subresource: Option<String>,
    /// Namespace.
    pub namespace: Option<String>,
    /// Object name.
    pub name: Option<String>,
}

impl RequestInfo {
    /// True for everything that may change the store.
    #[must_use]
    pub fn writes(&self) -> bool {
        !matches!(self.verb, "get" | "list" | "watch" | "other")
    }
}

/// What goes wrong with a request.
#[derive(Debug, Clone, Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    Pass,
    /// It is refused before anything is done.
    Refuse(Box<ApiStatus>),
    /// It is done, and yet this is the answer.
    LoseAnswer(Box<ApiStatus>),
    /// The connection breaks; if `done`, after the work was done.
    Disconnect {
        /// Whether the work is done.
        done: bool,
    },
    /// It waits first, then meets the other fault.
    Delay(Duration, Box<Fault>),
    /// A watch ends after so many events; other requests pass.
    EndWatch {
        /// Events that still arrive.
        after: usize,
    },
    /// Every event of a watch arrives that much later; other requests pass.
    LagWatch(Duration),
    /// A watch never shows some of its events: every `nth` (1 is every one); other requests pass.
    MissEvents {
        /// Which events are lost.
        nth: usize,
    },
}

type Rule = Box<dyn FnMut(&RequestInfo) -> Fault + Send>;

/// A shared handle on the faults of a server.
#[derive(Clone, Default)]
pub struct Faults(Arc<Inner>);

struct Inner {
    rule: Mutex<Option<Rule>>,
    cuts: watch::Sender<u64>,
}

impl Default for Inner {
    fn default() -> Self {
        Self { rule: Mutex::new(None), cuts: watch::channel(0).0 }
    }
}

impl Faults {
    /// From now on this rule decides.
    pub fn set(&self, rule: Rule) {
        *self.0.rule.lock().unwrap_or_else(PoisonError::into_inner) = Some(rule);
    }

    /// From now on nothing goes wrong.
    pub fn clear(&self) {
        *self.0.rule.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Ends every open watch.
    pub fn cut_watches(&self) {
        self.0.cuts.send_modify(|count| *count += 1);
    }

    pub(super) fn cuts(&self) -> watch::Receiver<u64> {
        self.0.cuts.subscribe()
    }

    pub(super) fn judge(&self, request: &RequestInfo) -> Fault {
        let mut rule = self.0.rule.lock().unwrap_or_else(PoisonError::into_inner);
        rule.as_mut().map_or(Fault::Pass, |rule| rule(request))
    }
}
