//! What surrounds a release: calls, alerts, messages and spans of time.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::DurationSpec;
use super::rollout::OnFailure;
use super::schema;

/// An outgoing call.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// Name.
    #[schemars(schema_with = "schema::label_name")]
    pub name: String,
    /// When it is called.
    pub at: HookPoint,
    /// The address.
    #[schemars(schema_with = "schema::address")]
    pub url: String,
    /// How long one call may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<DurationSpec>,
    /// How often a failed call is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10))]
    pub retries: Option<i32>,
    /// What a failed hook does. Default `Fail`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "Fail"))]
    pub failure_policy: Option<HookFailurePolicy>,
    /// Sent along.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub metadata: BTreeMap<String, String>,
}

/// When a hook is called.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HookPoint {
    /// Before the first step.
    BeforeRollout,
    /// Before a step's pods move.
    #[default]
    BeforeStep,
    /// After a step.
    AfterStep,
    /// Before the last traffic moves.
    BeforePromotion,
    /// After the release.
    AfterRollout,
    /// When a rollback starts.
    OnRollback,
    /// At every event.
    Event,
}

/// What a failed hook does.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HookFailurePolicy {
    /// It fails the step.
    #[default]
    Fail,
    /// It is reported and passed over.
    Ignore,
}

/// Firing alerts that stop the release.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[x_kube(
    validation = Rule::new(
        "has(self.matchLabels) && size(self.matchLabels) > 0"
    )
    .message(
        "matchLabels must name at least one label, or every alert would stop the \
         release"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct AlertRule {
    /// All of these labels must be on the alert.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub match_labels: BTreeMap<String, String>,
    /// What a matching alert does. Default `Rollback`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "Rollback"))]
    pub action: Option<OnFailure>,
}

/// Whom to tell about what.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NotificationRef {
    /// The `NotificationSink`.
    #[serde(rename = "ref")]
    #[schemars(schema_with = "schema::object_name")]
    pub ref_: String,
    /// The moments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub on: Vec<String>,
}

/// A recurring span of time.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// When it starts: five fields.
    #[schemars(schema_with = "schema::cron")]
    pub cron: String,
    /// The time zone. Default UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub time_zone: Option<String>,
    /// How long it lasts.
    pub duration: DurationSpec,
}
