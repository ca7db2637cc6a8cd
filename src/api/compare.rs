//! The comparison of canary and stable in a metric: raw series in, a verdict with an error bound
//! out.
//!
//! The queries name raw counters, histogram buckets or gauges, never `rate()`. The selector of each
//! arm's pods is added to the query by the analysis.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::DurationSpec;
use super::kayenta::KayentaJudge;
use super::schema;

/// Exactly one of `ratio`, `count`, `histogram`, `gauge` and `series`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new(
        "[has(self.ratio), has(self.count), has(self.histogram), \
         has(self.gauge), has(self.series)].exists_one(x, x)"
    )
    .message(
        "must have exactly one of ratio, count, histogram, gauge and series"
    ),
    validation = Rule::new(
        "has(self.series) == has(self.judge)"
    )
    .message(
        "series is for judge: {kayenta: {...}}, and that judge judges series"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct Compare {
    /// Bad events of all events, from two counters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<RatioSeries>,
    /// Events per unit of traffic or time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<CountSeries>,
    /// The buckets of a histogram, for example `http_request_duration_seconds_bucket{app="web"}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::query")]
    pub histogram: Option<String>,
    /// A number per pod, for example `container_memory_working_set_bytes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::query")]
    pub gauge: Option<String>,
    /// Any query, for Kayenta's judge: `rate()` and quotients are welcome. The selector of each arm
    /// is added to everything it selects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::query")]
    pub series: Option<String>,
    /// A change, as `N%`, that must be caught. A PASS proves that the change is less than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,3}(\.[0-9]+)?%$"), length(max = 8))]
    pub harmful: Option<String>,
    /// What canary pods do while they are younger than this is not counted: a process that has just
    /// started is slower and fails more often than one that has run for a while. `0s` counts all.
    /// Default `15s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_up: Option<DurationSpec>,
    /// A label that the two versions have with different values, where the series do not name the
    /// pods of the version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arms: Option<ArmLabel>,
    /// The label that carries the pod's name. Default `pod`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::series_label")]
    pub pod_label: Option<String>,
    /// Who judges. Absent: the sequential judge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<Judge>,
}

/// A label that the two versions have with different values.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new(
        "self.canary != self.stable"
    )
    .message(
        "canary and stable have the same value; nothing tells the versions apart"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ArmLabel {
    /// The label, for example `version` or `destination_service_name`.
    #[schemars(schema_with = "schema::series_label")]
    pub label: String,
    /// Its value for the new version, for example `{{args.canary}}`.
    #[schemars(length(min = 1, max = 1024))]
    pub canary: String,
    /// Its value for the stable version.
    #[schemars(length(min = 1, max = 1024))]
    pub stable: String,
}

/// Bad events of all events.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RatioSeries {
    /// The counter of bad events.
    #[schemars(schema_with = "schema::query")]
    pub bad: String,
    /// The counter of all events.
    #[schemars(schema_with = "schema::query")]
    pub total: String,
}

/// Events per unit of traffic or time.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CountSeries {
    /// The counter of events.
    #[schemars(schema_with = "schema::query")]
    pub events: String,
    /// The counter of the traffic that causes them. Absent: per second and pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::query")]
    pub per: Option<String>,
}

/// Who judges: one of its fields.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new(
        "has(self.kayenta)"
    )
    .message(
        "must name a judge: kayenta"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct Judge {
    /// Kayenta's judge. The metric's `interval` is the time between two judgements (default `30m`),
    /// `count` their number (the last one decides), `initialDelay` the warm-up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kayenta: Option<KayentaJudge>,
}

/// Which change is harmful.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// More is worse.
    #[default]
    Increase,
    /// Less is worse.
    Decrease,
    /// Any change is worse.
    Either,
}
