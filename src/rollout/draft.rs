//! The plan while it is being made.

use std::rc::Rc;

use jiff::{SignedDuration, Timestamp};

use super::snapshot::Snapshot;
use super::status;
use super::types::{Action, EventNote, Plan, Urgency, WaitingOn, Who};
use super::{let_go, machine};
use crate::api::common::Time;
use crate::api::status::{ReleaseStatus, RolloutStatus, STATUS_SCHEMA, StepState};
use crate::spec::{self, SpecError};
use crate::workload::{DeploymentView, Write};

/// What follows from a snapshot and the time. Total: it never fails and never panics; what is wrong
/// becomes a status.
#[must_use]
pub fn plan(snapshot: &Snapshot, now: Timestamp) -> Plan {
    let mut draft = Draft::new(snapshot, now);
    machine::run(&mut draft);
    draft.finish()
}

/// The plan while it is being made.
pub(crate) struct Draft<'a> {
    pub(crate) s: &'a Snapshot,
    pub(crate) now: Timestamp,
    pub(crate) status: RolloutStatus,
    /// The spec, checked once.
    parsed: Option<Result<Rc<spec::Plan>, Vec<SpecError>>>,
    /// Before the status is written: what it relies on.
    pub(crate) before: Vec<Action>,
    /// After the status is written: what it announces.
    pub(crate) after: Vec<Action>,
    pub(crate) events: Vec<EventNote>,
    pub(crate) wake: Option<Timestamp>,
    pub(crate) waiting: Option<WaitingOn>,
    /// A person's wish was read, so the status must be written.
    pub(crate) consumed: bool,
}

impl<'a> Draft<'a> {
    fn new(s: &'a Snapshot, now: Timestamp) -> Self {
        let status = s.rollout.status.clone().unwrap_or_default();
        Self {
            s,
            now,
            status,
            parsed: None,
            before: Vec::new(),
            after: Vec::new(),
            events: Vec::new(),
            wake: None,
            waiting: None,
            consumed: false,
        }
    }

    /// A second after the last write to the workload our entry is taken out of its `managedFields`: at
    /// once would double the writes of a release that runs through.
    fn disown(&mut self) {
        let Some(view) = &self.s.workload else { return };
        let Some((index, at)) = view.owned else { return };
        if self.after.iter().any(|a| matches!(a, Action::Workload { .. })) {
            return;
        }
        // Stamps are whole seconds, rounded down.
        let due = at.saturating_add(SignedDuration::from_secs(2)).unwrap_or(self.now);
        if self.now < due {
            return self.wake_at(Some(due));
        }
        self.after.push(Action::Disown {
            uid: view.uid.clone(),
            resource_version: view.resource_version.clone(),
            name: view.name.clone(),
            index,
        });
    }

    fn finish(mut self) -> Plan {
        let newer = self.status.schema.is_some_and(|v| v > STATUS_SCHEMA);
        if !newer {
            self.disown();
        }
        // Also when the process died between the last words of a release and this write.
        if self.status.release.is_none() && self.status.schema == Some(STATUS_SCHEMA) {
            let_go::finalizer_off(&mut self);
        }
        status::describe(&mut self);
        let urgency = match &self.s.rollout.status {
            // What a newer version remembers in its status would be lost by writing ours.
            _ if newer => Urgency::None,
            _ if self.consumed => Urgency::Now,
            Some(old) => status::urgency(old, &self.status),
            None => status::urgency(&RolloutStatus::default(), &self.status),
        };
        let mut actions = self.before;
        if urgency == Urgency::Now {
            actions.push(Action::Status);
        }
        actions.extend(self.events.into_iter().map(Action::Event));
        actions.extend(self.after);
        Plan { status: self.status, urgency, actions, wake: self.wake, waiting: self.waiting }
    }

    /// The spec, checked; parsed by the first who asks.
    pub(crate) fn spec(&mut self) -> Result<Rc<spec::Plan>, Vec<SpecError>> {
        let parse = || spec::Plan::parse(&self.s.rollout.spec).map(Rc::new);
        self.parsed.get_or_insert_with(parse).clone()
    }

    /// The release under way; a scratch one when there is none, which no caller keeps.
    pub(crate) fn release(&mut self) -> &mut ReleaseStatus {
        self.status.release.get_or_insert_default()
    }

    /// A copy of the release under way.
    pub(crate) fn released(&self) -> ReleaseStatus {
        self.status.release.clone().unwrap_or_default()
    }

    /// Puts the step into a state, now.
    pub(crate) fn enter(&mut self, state: StepState) {
        let now = Time(self.now);
        let release = self.release();
        if release.state != state {
            release.state = state;
            release.since = Some(now);
        }
    }

    /// Seconds-exact age of the current state.
    pub(crate) fn since(&self) -> Timestamp {
        self.status.release.as_ref().and_then(|r| r.since.as_ref()).map_or(self.now, |t| t.0)
    }

    pub(crate) fn wait(&mut self, who: Who, what: impl Into<String>) {
        if self.waiting.is_none() {
            self.waiting = Some(WaitingOn { who, what: what.into() });
        }
    }

    pub(crate) fn wake_at(&mut self, at: Option<Timestamp>) {
        if let Some(at) = at {
            self.wake = Some(self.wake.map_or(at, |w| w.min(at)));
        }
    }

    pub(crate) fn wake_in(&mut self, span: SignedDuration) {
        self.wake_at(self.now.saturating_add(span).ok());
    }

    pub(crate) fn event(&mut self, reason: &'static str, note: impl Into<String>) {
        self.events.push(EventNote { warning: false, reason, note: note.into() });
    }

    pub(crate) fn warn(&mut self, reason: &'static str, note: impl Into<String>) {
        self.events.push(EventNote { warning: true, reason, note: note.into() });
    }

    /// A write to the workload, after the status.
    pub(crate) fn write(&mut self, view: &DeploymentView, write: Write) {
        self.after.push(Action::Workload {
            uid: view.uid.clone(),
            resource_version: view.resource_version.clone(),
            name: view.name.clone(),
            write,
        });
    }
}
