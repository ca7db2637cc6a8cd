//! The plan while it is being made.

use std::rc::Rc;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::hook_call::HookCall;
use super::refusal::Refusal;
use super::snapshot::Snapshot;
use super::status;
use super::types::{Action, Disowned, EventNote, Plan, Urgency, WaitingOn, Who};
use super::{calibration, hooks, let_go, machine};
use crate::api::common::Time;
use crate::api::status::{ReleaseStatus, RolloutStatus, STATUS_SCHEMA, StepState};
use crate::spec::{self, SpecError};
use crate::workload::view::owned;
use crate::workload::{DeploymentView, Write};

/// What follows from a snapshot and the time. Total: it never fails and never panics; what is wrong
/// becomes a status.
#[must_use]
pub fn plan(snapshot: &Snapshot, now: Timestamp) -> Plan {
    let mut draft = Draft::new(snapshot, now);
    if let Some(Refusal::Read(why)) = &snapshot.refusal {
        draft.unread(why);
        return draft.done();
    }
    machine::run(&mut draft);
    calibration::describe(&mut draft);
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
    /// Calls of hooks, after everything else.
    pub(crate) calls: Vec<HookCall>,
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
            calls: Vec::new(),
            wake: None,
            waiting: None,
            consumed: false,
        }
    }

    /// A second after the last write to the workload our entry is taken out of its `managedFields`: at
    /// once would double the writes of a release that runs through.
    fn disown(&mut self) {
        if let Some(view) = &self.s.workload
            && let Some((index, at)) = view.owned
            && !self.writes()
            && self.is_due(at)
        {
            self.after.push(Action::Disown {
                kind: Disowned::Deployment,
                uid: view.uid.clone(),
                resource_version: view.resource_version.clone(),
                name: view.name.clone(),
                index,
            });
        }
        // Services and routes are written at each step, and the user's again when the release is over.
        if self.status.release.is_some() {
            return;
        }
        let snapshot = self.s;
        for object in snapshot.services.values().chain(snapshot.routes.values()) {
            let Some((index, at)) = owned(object) else { continue };
            if !self.is_due(at) {
                continue;
            }
            let text = |path| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
            let kind = match text("/kind") {
                "HTTPRoute" => Disowned::HttpRoute,
                "GRPCRoute" => Disowned::GrpcRoute,
                _ => Disowned::Service,
            };
            self.after.push(Action::Disown {
                kind,
                uid: text("/metadata/uid").to_owned(),
                resource_version: text("/metadata/resourceVersion").to_owned(),
                name: text("/metadata/name").to_owned(),
                index,
            });
        }
    }

    /// Two seconds have passed; else they are waited for. Stamps are whole seconds, rounded down.
    fn is_due(&mut self, written_at: Timestamp) -> bool {
        let due = written_at.saturating_add(SignedDuration::from_secs(2)).unwrap_or(self.now);
        if self.now < due {
            self.wake_at(Some(due));
        }
        self.now >= due
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
        if self.s.refusal.is_none() {
            status::clear(&mut self, status::REFUSED);
        }
        self.still_refused();
        status::describe(&mut self);
        hooks::tell(&mut self);
        self.done()
    }

    /// What was planned, with the status where it is news.
    fn done(self) -> Plan {
        let newer = self.status.schema.is_some_and(|v| v > STATUS_SCHEMA);
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
        Plan {
            status: self.status,
            urgency,
            actions,
            calls: self.calls,
            wake: self.wake,
            waiting: self.waiting,
        }
    }

    /// The spec, checked; parsed by the first who asks.
    pub(crate) fn spec(&mut self) -> Result<Rc<spec::Plan>, Vec<SpecError>> {
        let parse = || spec::Plan::parse(&self.s.rollout.spec).map(Rc::new);
        self.parsed.get_or_insert_with(parse).clone()
    }

    /// The spec as somebody has parsed it already.
    pub(crate) fn parsed_spec(&self) -> Option<Rc<spec::Plan>> {
        self.parsed.clone()?.ok()
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

    /// Nothing may go on: in that time no pod and no step is late. A pause that the step asks for goes on.
    pub(crate) fn stop_clock(&mut self) {
        let release = self.release();
        release.step_since = None;
        if release.state != StepState::StepPaused {
            release.since = None;
        }
    }

    /// What stood has its time once more.
    pub(crate) fn start_clock(&mut self) {
        let now = Time(self.now);
        let release = self.release();
        release.since.get_or_insert_with(|| now.clone());
        release.step_since.get_or_insert(now);
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

    /// A write to the workload is planned already.
    pub(crate) fn writes(&self) -> bool {
        self.after.iter().any(|a| matches!(a, Action::Workload { .. }))
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
