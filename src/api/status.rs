//! `Rollout.status`: where the release is, why, and what is next.
//!
//! Kruise's fields are kept as they are, so that its clients work. Everything the controller has to
//! remember between two reconciles is here, in [`ReleaseStatus`], and nowhere else.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Condition, Time};
use super::gate::KnobFields;
pub use super::hook_status::{HookState, HookStatus};

/// The version of the status layout. A controller that meets a newer one holds and says so.
pub const STATUS_SCHEMA: i32 = 1;

/// Where the release is.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// The layout of this status, see `STATUS_SCHEMA`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<i32>,
    /// The generation of the spec that this status answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Phase of the Rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// What is going on, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The current step, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_step_index: Option<i32>,
    /// The state of the current step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_step_state: Option<StepState>,
    /// `Ready`, `Reconciling`, `Stalled` (kstatus), `Progressing`, `Succeeded` (Kruise) and ours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Kruise's sub-status of a canary release. A client approves by setting `currentStepState`
    /// here to `StepReady`, and jumps by setting `nextStepIndex`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_status: Option<CanaryStatus>,
    /// What holds the workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateStatus>,
    /// The current step, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepStatus>,
    /// Traffic of the new version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<TrafficStatus>,
    /// Ready pods of the new version of those wanted, as `3/10`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// The newest verdict in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// The verdicts of this release's analysis runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verdicts: Vec<VerdictStatus>,
    /// What hooks were asked and what they said, in this release and after the one before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookStatus>,
    /// Who or what must act for the release to go on, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// A person's wish, written by a client, taken away by the controller when it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Request>,
    /// Who approved or asked last, as recorded by the API server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
    /// The release under way. Absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseStatus>,
    /// The release before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_release: Option<LastRelease>,
    /// The template that failed, which is held until `retry` or another template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Rejected>,
}

/// Phase of a Rollout: Kruise's words plus `Failed`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// The workload has not been found yet.
    #[default]
    Initial,
    /// Nothing to do.
    Healthy,
    /// A release is under way.
    Progressing,
    /// The Rollout is being disabled.
    Disabling,
    /// Hands off.
    Disabled,
    /// The Rollout is being deleted.
    Terminating,
    /// Rolled back or isolated, until the next template or `retry`.
    Failed,
}

/// State of a step: Kruise's words.
#[derive(
    JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord,
)]
pub enum StepState {
    /// Services are made ready for the step.
    #[default]
    BeforeStepUpgrade,
    /// Pods move.
    StepUpgrade,
    /// Traffic moves.
    StepTrafficRouting,
    /// An analysis is looked at.
    StepMetricsAnalysis,
    /// The step waits for time or approval.
    StepPaused,
    /// The step is done.
    StepReady,
    /// The last step is done.
    Completed,
}

/// Kruise's sub-status of a canary release.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CanaryStatus {
    /// The generation of the workload that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_workload_generation: Option<i64>,
    /// The release id.
    #[serde(default, rename = "observedRolloutID", skip_serializing_if = "Option::is_none")]
    pub observed_rollout_id: Option<String>,
    /// Hash of the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout_hash: Option<String>,
    /// The stable revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_revision: Option<String>,
    /// The new revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_revision: Option<String>,
    /// The new revision's pod template hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template_hash: Option<String>,
    /// The current step, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_step_index: Option<i32>,
    /// The next step, counted from 1; -1 when there is none. A client jumps by setting it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_step_index: Option<i32>,
    /// The state of the current step. A client approves by setting it to `StepReady`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_step_state: Option<StepState>,
    /// Pods of the new revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_replicas: Option<i32>,
    /// Ready pods of the new revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_ready_replicas: Option<i32>,
    /// The last change of the step's state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_update_time: Option<Time>,
    /// What is going on, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What holds the workload.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct GateStatus {
    /// The mechanism in force.
    pub kind: GateKind,
    /// When it was proven by a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven_at: Option<Time>,
    /// What it cannot hold, or why a better one is not in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The mechanism that holds a changed template.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GateKind {
    /// A policy inside the API server, proven by a dry run.
    Policy,
    /// The controller pauses the workload within one watch event.
    #[default]
    Repair,
}

/// The current step, for people.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct StepStatus {
    /// Counted from 1.
    pub index: i32,
    /// How many there are.
    pub of: i32,
    /// `2/4`.
    pub progress: String,
    /// The step's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its state.
    pub state: StepState,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}

/// Traffic of the new version.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TrafficStatus {
    /// What the step wants: `10%`, `matches`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<String>,
    /// What the routers have accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<String>,
}

/// One analysis run and what it said.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct VerdictStatus {
    /// The AnalysisRun.
    pub run: String,
    /// `Background` or the step's number.
    pub scope: String,
    /// Its phase.
    pub phase: String,
    /// The numbers behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A person's wish.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// What is asked for.
    pub verb: RequestVerb,
    /// Who asked, as recorded by the API server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The release that was meant; a request for another one is dropped with an event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// The alerts that ask, each as its fingerprint and the time since when it fires.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<String>,
}

/// What a person can ask for by a status write.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestVerb {
    /// End the current wait.
    #[default]
    Approve,
    /// Go to the end without further steps.
    PromoteFull,
    /// Go back to the stable version.
    Abort,
    /// Try the rejected template again.
    Retry,
    /// Leave out what is left of this step, its analysis included.
    Skip,
    /// Begin again at the first step.
    Restart,
    /// Stay where it is until somebody approves.
    Pause,
    /// Take the traffic away from the new version and keep its pods, as an alert may ask.
    Isolate,
}

/// Everything the controller must remember of a release under way.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseStatus {
    /// Identity: the new template's hash and a count.
    pub id: String,
    /// Uid of the workload: another one of the same name is none of this release's business.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// Hash of the new template, as Sluice computes it.
    pub template_hash: String,
    /// Pod template hash of the stable ReplicaSet.
    pub stable: String,
    /// Pod template hash of the new ReplicaSet, once it exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<String>,
    /// When it started.
    pub started_at: Option<Time>,
    /// What the release is doing.
    pub stage: Stage,
    /// Why it went back or let go, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The reason in one word, for the condition and the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause_reason: Option<String>,
    /// The step under way, counted from 0.
    pub step: i32,
    /// Its state.
    pub state: StepState,
    /// Since when it is in this state; absent while nothing may go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// When the current step began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_since: Option<Time>,
    /// The step was reached by going back: too many new pods are taken away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backward: bool,
    /// The step leaves pods to the stable version: of a single pod none is left, so that a release which
    /// is scaled to one waits.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
    /// How often somebody else reset the routes in this step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contended: Option<i32>,
    /// The step as it was when it began: plan edits reach later steps only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen_step: Option<super::rollout::Step>,
    /// The user's fields of the workload.
    pub originals: KnobFields,
    /// What is needed to restore Services and routes, as JSON of `traffic`'s notes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_notes: Option<String>,
    /// How often steps were begun, so that a repeated step gets a new analysis run.
    pub attempt: i32,
    /// A person asked to go on without the step's verdict.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip: bool,
    /// AnalysisRuns that a person overruled by approving.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overruled: Vec<String>,
    /// A hold that only a person ends: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// The release windows and freezes: whether they hold the release, or a person overruled that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<WindowHold>,
    /// Alerts that have paused or isolated this release, the newest last: once a person goes on, the same
    /// one does not stop it again as often as Alertmanager repeats it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<String>,
    /// The decision of a hook that the release waits for: an `id` of `hooks`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<String>,
    /// Since when the new version is watched after its last step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baking_since: Option<Time>,
    /// The target that was remembered when the workload was scaled to 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended_template: Option<String>,
}

/// What windows and freezes do to a release.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowHold {
    /// The next step waits for a window to open or for a freeze to end.
    Closed,
    /// A person lets the next step begin all the same.
    Overruled,
}

/// What a release is doing.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Going through the steps.
    #[default]
    Stepping,
    /// Putting everything in its place after the last step.
    Finalising,
    /// Going back to the stable version.
    RollingBack,
    /// Leaving the workload where it is: disabled or deleted.
    LettingGo,
    /// No traffic to the new version, pods kept.
    Isolated,
    /// At 0 replicas: the stable template is back, the target is remembered.
    Suspended,
}

/// A release that is over.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LastRelease {
    /// Identity.
    pub id: String,
    /// `Promoted`, `RolledBack`, `Isolated`, `LetGo`.
    pub decision: String,
    /// Why, with the numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
}

/// A template that failed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Rejected {
    /// Hash of the template, as Sluice computes it.
    pub template_hash: String,
    /// Why.
    pub reason: String,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
}
