//! What a plan says.

use jiff::Timestamp;
use serde_json::Value;

use super::hook_call::HookCall;
use crate::api::{AnalysisRun, GateEntry, LetGo, RolloutStatus};
use crate::workload::Write;

/// Everything that follows from a snapshot and the time.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The status the Rollout should have.
    pub status: RolloutStatus,
    /// Whether it has to be written now.
    pub urgency: Urgency,
    /// What to do, in this order; the first failure ends it and the next plan starts from facts.
    pub actions: Vec<Action>,
    /// Calls of hooks to make once all actions are done: their attempts are in the status then.
    pub calls: Vec<HookCall>,
    /// When to plan again though nothing happens.
    pub wake: Option<Timestamp>,
    /// Who or what must act.
    pub waiting: Option<WaitingOn>,
}

/// Whether a status has to be written now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Nothing changed.
    None,
    /// Counts and sentences changed: once a second is enough, so that no write is made for each pod.
    Soon,
    /// A decision is in it: [`Action::Status`] is among the actions.
    Now,
}

/// One decided write.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Writes the plan's status.
    Status,
    /// Sets or removes the workload's entry of the Gate; makes the Gate when it is missing.
    Gate {
        /// The workload.
        workload: String,
        /// The entry, or none.
        entry: Option<Box<GateEntry>>,
    },
    /// Sets or removes what the Gate remembers of a workload that was let go.
    LetGo {
        /// The workload.
        workload: String,
        /// What it gets back one day, or nothing any more.
        left: Option<Box<LetGo>>,
    },
    /// Adds or takes away our finalizer on the Rollout.
    Finalizer(bool),
    /// A write to the workload.
    Workload {
        /// Uid of the Deployment.
        uid: String,
        /// Its resourceVersion.
        resource_version: String,
        /// Its name.
        name: String,
        /// What to write.
        write: Write,
    },
    /// Takes our entry out of an object's `managedFields`, so that a user's server-side apply meets no
    /// conflict.
    Disown {
        /// What it is.
        kind: Disowned,
        /// Its uid.
        uid: String,
        /// Its resourceVersion.
        resource_version: String,
        /// Its name.
        name: String,
        /// The entry's place in the list.
        index: usize,
    },
    /// Creates a Service.
    CreateService(Box<Value>),
    /// Replaces a Service; the object carries uid and resourceVersion.
    PutService(Box<Value>),
    /// Deletes a Service of ours.
    DeleteService {
        /// Name.
        name: String,
        /// Uid, as a precondition.
        uid: String,
    },
    /// Replaces an HTTPRoute or a GRPCRoute; the object carries uid and resourceVersion.
    PutRoute(Box<Value>),
    /// Creates an AnalysisRun.
    StartRun(Box<AnalysisRun>),
    /// Ends an AnalysisRun by `spec.terminate`.
    EndRun {
        /// Name.
        name: String,
        /// Its uid.
        uid: String,
        /// Its resourceVersion.
        resource_version: String,
    },
    /// Asks the API server by a dry run whether the gate holds.
    Prove {
        /// The workload.
        workload: String,
        /// A release is under way, so the hold has to be proven too.
        held: bool,
    },
    /// Tells people.
    Event(EventNote),
}

/// What a release writes to and leaves to its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disowned {
    /// The workload.
    Deployment,
    /// A stable Service.
    Service,
    /// An HTTPRoute.
    HttpRoute,
    /// A GRPCRoute.
    GrpcRoute,
}

/// An Event to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventNote {
    /// `Warning` instead of `Normal`.
    pub warning: bool,
    /// One word.
    pub reason: &'static str,
    /// A sentence with the numbers.
    pub note: String,
}

/// Who or what must act for the release to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingOn {
    /// The kind, for exit codes and metrics.
    pub who: Who,
    /// One sentence.
    pub what: String,
}

/// Who must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A person: approve, resume, retry, fix.
    Person,
    /// Pods or the native controller.
    Pods,
    /// A router.
    Router,
    /// An analysis.
    Analysis,
    /// A hook.
    Hook,
    /// Time.
    Time,
    /// The cluster: an object or a permission is missing.
    Cluster,
}
