//! The comparison of canary and stable in a metric: raw series in, a verdict with an error bound
//! out.
//!
//! The queries name raw counters, histogram buckets or gauges, never `rate()`. The selector of each
//! arm's pods is added to the query by the analysis.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::Opaque;
use super::schema;

/// Exactly one of `ratio`, `count`, `histogram` and `gauge`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new(
        "[has(self.ratio), has(self.count), has(self.histogram), \
         has(self.gauge)].exists_one(x, x)"
    )
    .message(
        "must have exactly one of ratio, count, histogram and gauge"
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
    /// A change, as `N%`, that must be caught. A PASS proves that the change is less than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,3}(\.[0-9]+)?%$"), length(max = 8))]
    pub harmful: Option<String>,
    /// Who judges. Absent: the sequential judge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<Judge>,
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
    /// Kayenta's judge on series: a `canaryAnalysisConfigurations` object of a Kayenta metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kayenta: Option<Opaque>,
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
