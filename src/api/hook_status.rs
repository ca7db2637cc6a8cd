//! `Rollout.status.hooks`: what was asked of hooks and what they said.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::around::HookPoint;
use super::common::Time;

/// One decision that was asked of one hook.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HookStatus {
    /// The hook.
    pub name: String,
    /// When it is called.
    pub at: HookPoint,
    /// The step, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<i32>,
    /// Identity of the decision, sent along as `webhook-id`: it stays the same over repeated calls.
    pub id: String,
    /// The release.
    pub release: String,
    /// How often the release's steps had been begun, see `release.attempt`.
    pub attempt: i32,
    /// Where it is.
    pub state: HookState,
    /// Calls that were begun. Written before the call is made.
    pub calls: i32,
    /// Calls that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<i32>,
    /// True when it has answered Processing: it may be asked again whatever happens.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub processing: bool,
    /// Its words, or why there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it was asked first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it must have said OK.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
    /// When it is asked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Time>,
}

/// Where a decision is.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HookState {
    /// A call is under way.
    #[default]
    Calling,
    /// It asked to be asked again.
    Processing,
    /// A call failed and is made again.
    Retrying,
    /// It agrees.
    #[serde(rename = "OK")]
    Ok,
    /// It refuses, or could not be asked.
    Error,
    /// The controller stopped before the answer came, and the call is not made twice.
    Unknown,
    /// It failed and does not count, by `failurePolicy` or `onInconclusive`.
    Ignored,
    /// A person went on without it.
    Overruled,
}
