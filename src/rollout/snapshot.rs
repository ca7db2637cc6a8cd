//! Everything a plan depends on, as plain data.

use std::collections::BTreeMap;

use serde_json::Value;

use super::calibration::CalibrationView;
use super::hook_call::HookSeen;
use super::refusal::Refusal;
use crate::api::{AnalysisRun, AnalysisTemplateSpec, GateEntry, GateSpec, LetGo, Rollout};
use crate::workload::DeploymentView;

/// What is seen of one Rollout and all that belongs to it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The Rollout.
    pub rollout: Rollout,
    /// The user name the API server knows the controller by.
    pub account: String,
    /// The Deployment it names, if it exists.
    pub workload: Option<DeploymentView>,
    /// The namespace's Gate.
    pub gate: Option<GateView>,
    /// Whether the gate has been seen to hold this workload.
    pub proof: Proof,
    /// The Services it names and their canaries, by name, as JSON.
    pub services: BTreeMap<String, Value>,
    /// Ready endpoints of those Services.
    pub endpoints: BTreeMap<String, i32>,
    /// The routes it names, by [`crate::spec::RouteRef::key`], as JSON.
    pub routes: BTreeMap<String, Value>,
    /// The canary Services that other Rollouts' releases give traffic, each with its Rollout.
    pub splits: BTreeMap<String, String>,
    /// Its AnalysisRuns, by name.
    pub runs: BTreeMap<String, AnalysisRun>,
    /// The templates it names: (cluster scope, name).
    pub templates: BTreeMap<(bool, String), AnalysisTemplateSpec>,
    /// What this process knows of calls of its hooks, by their ids.
    pub hooks: BTreeMap<String, HookSeen>,
    /// What is known of its calibration, when it was looked at.
    pub calibration: Option<CalibrationView>,
    /// An older Rollout that names the same workload.
    pub rival: Option<String>,
    /// What the API server refuses, if it refuses something.
    pub refusal: Option<Refusal>,
}

/// The namespace's Gate.
#[derive(Clone, Debug, PartialEq)]
pub struct GateView {
    /// What it says.
    pub spec: GateSpec,
}

/// Whether the policy gate has been seen to hold the workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Proof {
    /// Not tried since the policy, the binding or the gate changed.
    #[default]
    Unknown,
    /// The dry run was refused, as some webhooks do: nothing is known, and it is asked again.
    Refused {
        /// In whose words.
        reason: String,
    },
    /// A dry run came back held.
    Held {
        /// When.
        at: jiff::Timestamp,
    },
    /// A dry run went through, or there is no policy: the controller repairs.
    NotHeld {
        /// Why, in a sentence.
        reason: String,
        /// The first and the last of the dry runs that went through, one after the other.
        tried: Option<(jiff::Timestamp, jiff::Timestamp)>,
    },
}

impl Snapshot {
    /// The Gate's entry for the workload.
    #[must_use]
    pub fn entry(&self) -> Option<&GateEntry> {
        self.gate.as_ref()?.spec.deployments.get(&self.rollout.spec.workload_ref.name)
    }

    /// What the Gate remembers of the workload, if it was let go in mid-release.
    #[must_use]
    pub fn left(&self) -> Option<&LetGo> {
        self.gate.as_ref()?.spec.let_go.get(&self.rollout.spec.workload_ref.name)
    }

    /// Name of the Rollout.
    #[must_use]
    pub fn name(&self) -> &str {
        self.rollout.metadata.name.as_deref().unwrap_or_default()
    }

    /// Namespace of the Rollout.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.rollout.metadata.namespace.as_deref().unwrap_or_default()
    }
}
