//! Kayenta's judgement: what its canary config does not say, because Kayenta takes it from the request.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::analysis::NoData;
use super::common::{DurationSpec, Opaque};
use super::compare::ArmLabel;
use super::provider::Provider;
use super::schema;

/// How the metrics of a `kayentaConfig` are asked, and how often they are judged.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new(
        "has(self.control) == has(self.experiment)"
    )
    .message(
        "control and experiment belong together; write both or none"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct KayentaRun {
    /// The Prometheus server. Absent: the controller's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// Time between two judgements, Kayenta's analysis interval. Default `30m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::span_or_arg")]
    pub interval: Option<DurationSpec>,
    /// How many judgements; the last one decides. Default 1; 0: until the run is ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub count: Option<i32>,
    /// Warm-up: time from the run's start to the start of the series.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::span_or_arg")]
    pub initial_delay: Option<DurationSpec>,
    /// How much of the series is judged. Absent: all since the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::span_or_arg")]
    pub lookback: Option<DurationSpec>,
    /// The distance between two points of a series. Default `60s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::span_or_arg")]
    pub step: Option<DurationSpec>,
    /// The score of a pass. Absent: the config's `scoreThresholds`, else 95.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub pass: Option<i32>,
    /// A score up to this fails at once. Absent: the config's `scoreThresholds`, else 75.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub marginal: Option<i32>,
    /// What a judgement without enough data is. Default `Wait`; `Judge` is the score 0 that Kayenta
    /// gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_data: Option<NoData>,
    /// What `${scope}` and the like are for the stable version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<KayentaScope>,
    /// The same for the new version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiment: Option<KayentaScope>,
    /// For queries without `${scope}`: a label that the two versions have with different values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arms: Option<ArmLabel>,
    /// For queries without `${scope}`: the label that carries the pod's name. Default `pod`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::series_label")]
    pub pod_label: Option<String>,
}

/// The values that a canary config's templates name.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct KayentaScope {
    /// `${scope}`, for example `web-{{args.hash}}`.
    #[schemars(length(min = 1, max = 1024))]
    pub scope: String,
    /// `${location}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub location: Option<String>,
    /// Any other name: Kayenta's `extendedScopeParams`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub extended_scope_params: BTreeMap<String, String>,
}

/// Kayenta's judge on the series of one metric.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct KayentaJudge {
    /// The `canary` object of a Kayenta metric's `analysisConfigurations`, unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Opaque>,
    /// How much of the series is judged. Absent: all since the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::span_or_arg")]
    pub lookback: Option<DurationSpec>,
    /// The distance between two points of a series. Default `60s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::span_or_arg")]
    pub step: Option<DurationSpec>,
    /// The root finder's tolerance follows the unit of the metric; Kayenta's is 1e-4 in any unit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub relative_tolerance: bool,
    /// A judgement that failed counts as a failure; Kayenta passes it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fail_closed_errors: bool,
}
