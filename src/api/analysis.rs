//! `AnalysisTemplate` and `ClusterAnalysisTemplate`: what is measured and how it is judged.
//!
//! A superset of Argo's `argoproj.io/v1alpha1` templates: a manifest written for it is valid here
//! when only its `apiVersion` changes. What is added is said at each field. The providers are in
//! [`super::provider`], the comparison of canary and stable in [`super::compare`].

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Condition, DurationSpec, FieldRef, Opaque, SecretKeyRef};
use super::compare::{Compare, Direction};
use super::kayenta::KayentaRun;
use super::provider::Provider;
use super::rollout::{TemplateRef, Window};
use super::schema;

/// Metrics, their arguments and the templates they are taken from.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "sluice.dev",
    version = "v1beta1",
    kind = "AnalysisTemplate",
    plural = "analysistemplates",
    shortname = "sat",
    namespaced,
    status = "TemplateStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "sluice",
    printcolumn = r#"{"name":"Accepted","type":"string","jsonPath":".status.conditions[?(@.type=='Accepted')].reason"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[x_kube(
    validation = Rule::new(
        "has(self.kayentaConfig) || (has(self.metrics) && size(self.metrics) > 0) \
         || (has(self.templates) && size(self.templates) > 0)"
    )
    .message(
        "must have metrics, or templates or a kayentaConfig that bring them"
    ),
    validation = Rule::new(
        "!has(self.metrics) || self.metrics.all(a, self.metrics.exists_one(b, \
         b.name == a.name))"
    )
    .message(
        "two metrics have one name; give each metric its own"
    ),
    validation = Rule::new(
        "!has(self.kayenta) || has(self.kayentaConfig)"
    )
    .message(
        "kayenta says how a kayentaConfig is judged; write that too, or leave kayenta out"
    ),
    validation = Rule::new(
        "!has(self.args) || self.args.all(a, self.args.exists_one(b, b.name == \
         a.name))"
    )
    .message(
        "an argument is declared twice; declare each argument once"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisTemplateSpec {
    /// What is measured. May be empty only when `templates` or `kayentaConfig` brings metrics.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub metrics: Vec<Metric>,
    /// The arguments that `{{args.NAME}}` may name. A caller can set only what is declared here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub args: Vec<TemplateArg>,
    /// Metrics that are measured and reported but never decide.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub dry_run: Vec<DryRun>,
    /// How many measurements of which metrics are kept in the run's status. Default 10 each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub measurement_retention: Vec<MeasurementRetention>,
    /// Templates whose metrics are added to these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub templates: Vec<TemplateRef>,
    /// Added: how the metrics' answers become the run's. Absent: all must be good, as in Argo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decide: Option<Decide>,
    /// Added: the chance that a good release is failed by the comparisons of this template, `N%`
    /// per release. Default `1%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(0\.[0-9]+|[1-9][0-9]?(\.[0-9]+)?)%$"), length(max = 8))]
    pub risk: Option<String>,
    /// Added: the history from which the boundary of the comparisons is learnt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// Added: a Kayenta canary config, unchanged. Its metrics are judged as Kayenta does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kayenta_config: Option<Opaque>,
    /// Added: how the metrics of `kayentaConfig` are asked and how often they are judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kayenta: Option<KayentaRun>,
}

/// The same for the whole cluster. A namespaced template that it names is looked for in the
/// Rollout's namespace.
#[derive(CustomResource, JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "sluice.dev",
    version = "v1beta1",
    kind = "ClusterAnalysisTemplate",
    plural = "clusteranalysistemplates",
    shortname = "scat",
    status = "TemplateStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "sluice",
    printcolumn = r#"{"name":"Accepted","type":"string","jsonPath":".status.conditions[?(@.type=='Accepted')].reason"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(transparent)]
pub struct ClusterAnalysisTemplateSpec(pub AnalysisTemplateSpec);

/// What the controller thinks of a template.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TemplateStatus {
    /// `Accepted`: `False` when it cannot work. The message has the findings of `sluice lint`, one a line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// One thing that is measured.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new(
        "has(self.provider) || has(self.compare)"
    )
    .message(
        "must have a provider, or compare with the controller's default server"
    ),
    validation = Rule::new(
        "!has(self.count) || type(self.count) != int || self.count <= 1 || \
         has(self.interval)"
    )
    .message(
        "interval must be specified when count > 1"
    ),
    validation = Rule::new(
        "!has(self.count) || !has(self.inconclusiveLimit) || type(self.count) != \
         int || type(self.inconclusiveLimit) != int || self.count == 0 || \
         self.count >= self.inconclusiveLimit"
    )
    .message(
        "count must be >= inconclusiveLimit"
    ),
    validation = Rule::new(
        "!has(self.compare) || (!has(self.successCondition) && \
         !has(self.failureCondition))"
    )
    .message(
        "a metric with compare is judged by it; leave successCondition and \
         failureCondition out"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct Metric {
    /// Name, unique in a run.
    #[schemars(schema_with = "schema::word")]
    pub name: String,
    /// Time between two measurements, `15s` or seconds. Needed when `count` is above 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::span_or_arg")]
    pub interval: Option<DurationSpec>,
    /// Time from the run's start to the first measurement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::span_or_arg")]
    pub initial_delay: Option<DurationSpec>,
    /// How many measurements without an error are taken. Absent: one without `interval`, no end
    /// with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count_or_arg")]
    pub count: Option<IntOrString>,
    /// An expression over `result` that must be true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::condition")]
    pub success_condition: Option<String>,
    /// An expression over `result` that must be false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::condition")]
    pub failure_condition: Option<String>,
    /// Failed measurements that are allowed; -1: any number. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::limit_or_arg")]
    pub failure_limit: Option<IntOrString>,
    /// Inconclusive measurements that are allowed. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count_or_arg")]
    pub inconclusive_limit: Option<IntOrString>,
    /// Errors in a row that are allowed. Without it and `onError` the metric waits for data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count_or_arg")]
    pub consecutive_error_limit: Option<IntOrString>,
    /// Successes in a row that end the metric as successful; 0: off. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count_or_arg")]
    pub consecutive_success_limit: Option<IntOrString>,
    /// Where the numbers come from. Needed unless `compare` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// Added: canary against stable, from raw counters, histograms or gauges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compare: Option<Compare>,
    /// Added: without this metric the run does not pass, and its failure fails the run, whatever
    /// `decide` says of the others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub critical: bool,
    /// Added: it is measured and reported, but neither decides nor is waited for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub advisory: bool,
    /// Added: the share of this metric, among the comparisons and for `decide.score`. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub weight: Option<i32>,
    /// Added: what a measurement without any data is. Default `Wait`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_data: Option<NoData>,
    /// Added: what a metric with more than `consecutiveErrorLimit` errors in a row (then 4 when not
    /// given) is. Default `Wait`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_error: Option<OnError>,
    /// Added: what NaN is, also in one value of several. Default: what `noData` says.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "onNaN")]
    pub on_nan: Option<NoData>,
    /// Added: what series of a `rangeQuery` are that have ended, with `Judge` by their values. Default: what
    /// `noData` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_stale: Option<NoData>,
    /// Added: as `onError`, of errors that are timeouts. Default: what `onError` says. Errors for which the
    /// same is said are counted together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_timeout: Option<OnError>,
    /// Added: as `onError`, of a server that limits the rate (429). Default: what `onError` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_rate_limited: Option<OnError>,
    /// Added: time to the next try after an error, always the same; `10s` is what Argo does.
    /// Absent: 10 s, doubled with each error in a row up to `interval` (at most 5 min).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::span_or_arg")]
    pub error_retry: Option<DurationSpec>,
    /// Added: fewest events behind an answer before it is judged; of both arms in a comparison.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub min_events: Option<i64>,
    /// Added: the query for the number of events behind an answer, asked of the same provider (Prometheus,
    /// Datadog, web) when `minEvents` is given. Absent: derived from the divisor of a PromQL query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::query")]
    pub events: Option<String>,
    /// Added: which change is harmful. Default `Increase`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
}

/// What a measurement without any data is: an empty result, NaN, or series that have ended.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NoData {
    /// An error of the measurement, which is taken again: the metric waits for data.
    #[default]
    Wait,
    /// A successful measurement: nothing happened.
    Pass,
    /// A failed measurement: something should have happened.
    Fail,
    /// An inconclusive measurement.
    Inconclusive,
    /// What Argo makes of it: the conditions are asked about NaN and the values of series that have ended,
    /// and an empty result is an error.
    Judge,
}

/// What a metric with too many errors in a row is.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// It waits until there is an answer; with a `consecutiveErrorLimit` it ends as `Error`.
    #[default]
    Wait,
    /// Successful: the run goes on without it.
    Pass,
    /// Failed.
    Fail,
    /// Inconclusive.
    Inconclusive,
}

/// How the answers of the metrics become the run's: at most one of its fields. Metrics of a dry run
/// and advisory ones are left out; a critical one has to be good in any case.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new(
        "!has(self.atLeast) || !has(self.score)"
    )
    .message(
        "must have at most one of atLeast and score"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct Decide {
    /// So many metrics must be good; 1 is any of them. The run ends as soon as that is certain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub at_least: Option<i32>,
    /// Good metrics must have this share, `N%`, of the `weight` of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([1-9][0-9]?|100)%$"), length(max = 4))]
    pub score: Option<String>,
}

/// An argument that a template declares.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new(
        "!has(self.value) || !has(self.valueFrom)"
    )
    .message(
        "must have at most one of value and valueFrom"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct TemplateArg {
    /// Name, as in `{{args.NAME}}`.
    #[schemars(schema_with = "schema::word")]
    pub name: String,
    /// The value when the caller gives none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub value: Option<String>,
    /// Where the value comes from when the caller gives none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<TemplateArgSource>,
}

/// Where the value of a template's argument comes from.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new(
        "has(self.secretKeyRef) != has(self.fieldRef)"
    )
    .message(
        "must have exactly one of secretKeyRef and fieldRef"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct TemplateArgSource {
    /// A key of a Secret in the run's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
    /// A field of the Rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_ref: Option<FieldRef>,
}

/// Metrics that never decide.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DryRun {
    /// A regular expression that is looked for anywhere in a metric's name.
    #[schemars(length(min = 1, max = 256))]
    pub metric_name: String,
}

/// How many measurements are kept.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MeasurementRetention {
    /// A regular expression that is looked for anywhere in a metric's name.
    #[schemars(length(min = 1, max = 256))]
    pub metric_name: String,
    /// Measurements kept in the status; 0: the default of 10.
    #[schemars(range(min = 0, max = 1000))]
    pub limit: i32,
}

/// The history from which a boundary is learnt: stable pods against stable pods, as releases without a
/// change.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Calibration {
    /// How far back, for example `14d`: no longer than the metric server keeps raw series.
    pub history: DurationSpec,
    /// How many windows are taken from it, at most. A risk of 1 % needs 99; with 299 and more, large
    /// changes are seen sooner. Default 360.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_000))]
    pub windows: Option<i32>,
    /// How long a window is: as long as a release is compared. Default `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<DurationSpec>,
    /// When it is learnt anew: five fields. Default `0 4 * * 1`, Mondays at four.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::cron")]
    pub schedule: Option<String>,
    /// The time zone of the schedule. Default UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub time_zone: Option<String>,
    /// Spans that are left out, such as planned load tests, or nights in which nobody releases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub exclude: Vec<Window>,
}
