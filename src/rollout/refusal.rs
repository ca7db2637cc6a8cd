//! What the API server refuses us, said on the Rollout.

use jiff::Timestamp;

use super::types::{Action, EventNote, Plan, Urgency, WaitingOn, Who};
use super::{Draft, status};
use crate::api::Rollout;
use crate::api::status::STATUS_SCHEMA;

/// How much of what the API server says is kept.
const WORDS: usize = 1_000;

/// What is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A kind that the plan depends on was never listed: what is missing in a snapshot may well be there.
    /// In a sentence.
    Read(String),
    /// The last write; the Rollout's condition says which.
    Write,
}

/// A write that is refused, in the words of whoever refuses it.
#[derive(Clone, Copy, Debug)]
pub struct RefusedWrite<'a> {
    /// One word.
    pub reason: &'static str,
    /// Which write: how the text begins. Two texts that begin alike are one refusal.
    pub what: &'a str,
    /// What was tried, what came back, what to do.
    pub text: &'a str,
}

/// The plan that says it on the Rollout, which stays as it is otherwise; with an Event when it is `news`.
/// `None` when it is said already.
#[must_use]
pub fn tell_refused(
    rollout: &Rollout,
    now: Timestamp,
    write: RefusedWrite<'_>,
    news: bool,
) -> Option<Plan> {
    let RefusedWrite { reason, what, text } = write;
    let mut status = rollout.status.clone().unwrap_or_default();
    let mut said = status.conditions.iter().filter(|c| c.type_ == status::REFUSED);
    let is_said = said.any(|c| c.reason == reason && c.message.starts_with(what));
    if is_said || status.schema.is_some_and(|v| v > STATUS_SCHEMA) {
        return None;
    }
    let text: String = text.chars().take(WORDS).collect();
    status::refuse(&mut status, (rollout.metadata.generation, now), (reason, &text));
    let note = EventNote { warning: true, reason: "Refused", note: text };
    let mut actions = vec![Action::Status];
    if news {
        // Told also where the status is what may not be written.
        actions.insert(0, Action::Event(note));
    }
    Some(Plan {
        status,
        urgency: Urgency::Now,
        actions,
        calls: Vec::new(),
        wake: None,
        waiting: None,
    })
}

impl Draft<'_> {
    /// Nothing is decided on what is not known: the status says why, and stays as it is.
    pub(crate) fn unread(&mut self, why: &str) {
        let at = (self.s.rollout.metadata.generation, self.now);
        if status::refuse(&mut self.status, at, ("ListRefused", why)) {
            self.warn("Refused", why);
        }
        self.waiting = Some(WaitingOn { who: Who::Cluster, what: why.to_owned() });
    }

    /// A write is refused still: that is what is waited for.
    pub(crate) fn still_refused(&mut self) {
        let said = status::find(self, status::REFUSED).filter(|c| c.status == "True");
        if let Some(what) = said.map(|c| c.message.clone()) {
            self.waiting = Some(WaitingOn { who: Who::Cluster, what });
        }
    }
}
