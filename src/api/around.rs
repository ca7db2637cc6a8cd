//! What surrounds a release: calls, alerts, messages and spans of time.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{DurationSpec, SecretKeyRef};
use super::rollout::OnFailure;
use super::schema;

/// An outgoing call: a POST of JSON, whose answer lets the release go on, holds it or fails it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// Name; each once.
    #[schemars(schema_with = "schema::label_name")]
    pub name: String,
    /// When it is called.
    pub at: HookPoint,
    /// The address: http or https, without credentials.
    #[schemars(schema_with = "schema::hook_address")]
    pub url: String,
    /// How long one call may take, at most 5 minutes. Default 10 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<DurationSpec>,
    /// How long it may answer `Processing` and be tried again in all. Default 1 h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<DurationSpec>,
    /// How often a failed call is made again; 0: never, not even when its answer was lost. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10), extend("default" = 0))]
    pub retries: Option<i32>,
    /// What a failed hook does. Default `Fail`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "Fail"))]
    pub failure_policy: Option<HookFailurePolicy>,
    /// Sent along.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub metadata: BTreeMap<String, String>,
    /// How the call shows whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<HookAuth>,
    /// How the server is verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<HookTls>,
}

/// How a call shows whose it is: Secrets of the Rollout's namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HookAuth {
    /// A bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer: Option<SecretKeyRef>,
    /// The key of a signature (HMAC-SHA256 over id, time and body, as Standard Webhooks have it).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<SecretKeyRef>,
}

/// TLS towards a hook.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HookTls {
    /// The certificate authority, PEM, of a Secret in the Rollout's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretKeyRef>,
}

/// When a hook is called.
#[derive(
    JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord,
)]
pub enum HookPoint {
    /// Before the first step.
    BeforeRollout,
    /// Before a step's pods move.
    #[default]
    BeforeStep,
    /// After a step: its analysis has passed and its pause is over.
    AfterStep,
    /// After the last step, before the last pods and the last traffic move.
    BeforePromotion,
    /// After the release, whatever its end.
    AfterRollout,
    /// When a rollback starts; it does not wait for the answer.
    OnRollback,
    /// At every event; nothing waits for the answer.
    Event,
}

/// What a failed hook does.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HookFailurePolicy {
    /// `onFailure` of the Rollout; `onInconclusive` when the answer was lost.
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
    /// What a matching alert does; of several rules and alerts the gravest: `Rollback`, `Isolate`, `Pause`.
    /// Default `Rollback`.
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
