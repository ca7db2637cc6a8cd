//! `AnalysisRun`: one analysis under way and what it found.
//!
//! The spec is a whole copy of what is measured, so that a run is explained by itself. The status
//! is Argo's, and with it, per metric, the verdict and the evidence per arm. What the next process
//! needs to go on is here and nowhere else.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::analysis::{Calibration, Decide, DryRun, MeasurementRetention, Metric, TemplateArg};
use super::common::{DurationSpec, Opaque, Time};
use super::kayenta::KayentaRun;
use super::schema;

/// What is measured, for which release.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "sluice.dev",
    version = "v1beta1",
    kind = "AnalysisRun",
    plural = "analysisruns",
    shortname = "sar",
    namespaced,
    status = "AnalysisRunStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "sluice",
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Verdict","type":"string","jsonPath":".status.verdict"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[x_kube(
    validation = Rule::new(
        "!has(self.metrics) || self.metrics.all(a, self.metrics.exists_one(b, \
         b.name == a.name))"
    )
    .message(
        "two metrics have one name; give each metric its own"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisRunSpec {
    /// What is measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub metrics: Vec<Metric>,
    /// The arguments with their values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub args: Vec<TemplateArg>,
    /// True ends the run: no new measurement is taken and what is known decides.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub terminate: bool,
    /// Metrics that never decide.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub dry_run: Vec<DryRun>,
    /// How many measurements are kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub measurement_retention: Vec<MeasurementRetention>,
    /// When a run that is over is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_strategy: Option<TtlStrategy>,
    /// Added: the release that is judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<RunRelease>,
    /// Added: how long the run may last before it is `Inconclusive`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<DurationSpec>,
    /// Added: how the metrics' answers become the run's. Absent: all must be good, as in Argo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decide: Option<Decide>,
    /// Added: the chance that a good release is failed, `N%`. Default `1%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(0\.[0-9]+|[1-9][0-9]?(\.[0-9]+)?)%$"), length(max = 8))]
    pub risk: Option<String>,
    /// Added: the history from which the boundary is learnt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// Added: a Kayenta canary config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kayenta_config: Option<Opaque>,
    /// Added: how the metrics of `kayentaConfig` are asked and how often they are judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kayenta: Option<KayentaRun>,
}

/// When a run that is over is deleted, in seconds.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TtlStrategy {
    /// After any end that no other field covers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub seconds_after_completion: Option<i32>,
    /// After `Failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub seconds_after_failure: Option<i32>,
    /// After `Successful`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub seconds_after_success: Option<i32>,
}

/// The release that is judged and its two arms.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RunRelease {
    /// The Rollout.
    #[schemars(schema_with = "schema::object_name")]
    pub rollout: String,
    /// The release's identity.
    #[schemars(length(max = 253))]
    pub id: String,
    /// `Background`, or the step's number counted from 1.
    #[schemars(length(max = 253))]
    pub scope: String,
    /// The pod template hash of the stable revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub stable: Option<String>,
    /// The pod template hash of the new revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub canary: Option<String>,
    /// The run of the same two versions with whose evidence this one goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub continues: Option<String>,
    /// So many lines of runs look at the release and divide its risk: its steps are one, each
    /// background analysis is one. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub lines: Option<i32>,
    /// The try of these two versions, counted from 1: one more each time that they were compared anew
    /// after a failure. Later tries risk less. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub tries: Option<i32>,
}

impl RunRelease {
    /// Whether it watches in the background, beside the steps.
    #[must_use]
    pub fn is_background(&self) -> bool {
        self.scope == "Background" || self.scope.starts_with("Background/")
    }
}

/// What a run found.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisRunStatus {
    /// The layout of this status, see `RUN_SCHEMA`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<i32>,
    /// The generation of the spec that this status answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Phase of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<AnalysisPhase>,
    /// Why, with the numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// Metrics that decide, by how they ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_summary: Option<RunSummary>,
    /// Metrics that do not decide, by how they ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run_summary: Option<RunSummary>,
    /// What was found per metric.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metric_results: Vec<MetricResult>,
    /// Added: the answer so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Added: why the answer is this one, with the numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Added: what is missing for an answer, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// Added: estimated minutes to an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_minutes: Option<i32>,
    /// Added: what the run has taken from the history of the service at its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<RunCalibration>,
}

/// What a run has taken from the history of the service.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RunCalibration {
    /// What it is worth: `calibrated to alpha 1% on 336 windows of 60 min and 400 pods`, or why it is not.
    pub message: String,
    /// The boundary and the noise, as the judge's own text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<String>,
}

/// The version of the layout of a run's status. A controller that meets a newer one leaves it
/// alone.
pub const RUN_SCHEMA: i32 = 1;

/// Phase of a run, a metric or a measurement: Argo's words.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnalysisPhase {
    /// Not started.
    #[default]
    Pending,
    /// Under way.
    Running,
    /// Good.
    Successful,
    /// Bad.
    Failed,
    /// It could not be measured.
    Error,
    /// It cannot be told.
    Inconclusive,
}

/// The answer of a judge.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Not known yet; go on measuring.
    #[default]
    Continue,
    /// Shown to be good.
    Pass,
    /// Shown to be bad.
    Fail,
    /// It cannot be told, and more time does not help.
    Inconclusive,
}

/// Metrics by how they ended.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RunSummary {
    /// All.
    #[serde(default)]
    pub count: i32,
    /// Successful.
    #[serde(default)]
    pub successful: i32,
    /// Failed.
    #[serde(default)]
    pub failed: i32,
    /// Inconclusive.
    #[serde(default)]
    pub inconclusive: i32,
    /// Errors.
    #[serde(default)]
    pub error: i32,
}

/// What was found of one metric.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MetricResult {
    /// The metric.
    pub name: String,
    /// Its phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<AnalysisPhase>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The newest measurements, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measurements: Vec<Measurement>,
    /// Measurements without an error.
    #[serde(default)]
    pub count: i32,
    /// Successful measurements.
    #[serde(default)]
    pub successful: i32,
    /// Failed measurements.
    #[serde(default)]
    pub failed: i32,
    /// Inconclusive measurements.
    #[serde(default)]
    pub inconclusive: i32,
    /// Errors.
    #[serde(default)]
    pub error: i32,
    /// Errors in a row.
    #[serde(default)]
    pub consecutive_error: i32,
    /// Successes in a row.
    #[serde(default)]
    pub consecutive_success: i32,
    /// True: it does not decide.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// What the provider adds, for example `ResolvedPrometheusQuery`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Added: the answer so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Added: the numbers behind the verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    /// Added: what is missing for an answer, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// Added: estimated minutes to an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_minutes: Option<i32>,
    /// Added: how the evidence went, for a plot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<EvidencePath>,
    /// Added: what a comparison can see at this traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlook: Option<Outlook>,
    /// Added: the judge's state, as its own text, so that the next process goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
}

/// What a comparison can see at the traffic that it has had since its run or the weight began. A time
/// that is absent is never.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Outlook {
    /// Minutes of traffic after which half of the canaries at the harmful ratio have failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail_half: Option<f64>,
    /// The same for nine of ten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail_most: Option<f64>,
    /// Minutes of traffic after which half of the canaries without a change have passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass_half: Option<f64>,
    /// The same for nine of ten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass_most: Option<f64>,
    /// The smallest ratio that nine of ten times fails by the run's end, or within an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smallest_ratio: Option<f64>,
    /// By this factor the arms' own noise makes all of these times longer than chance alone would; it
    /// is in them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub design_effect: Option<f64>,
}

/// One measurement.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Measurement {
    /// Its phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<AnalysisPhase>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// The result as text: `10`, `[10,11]`, `NaN`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What the provider adds, for example `warnings`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// When a measurement that takes long is looked at again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_at: Option<Time>,
    /// Added: the numbers behind the phase: `0.0731 > 0.01`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<String>,
    /// Added: the result by its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<Sample>,
    /// Added: raw series per arm, for judges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arms: Option<Arms>,
}

/// A result by its kind. No data is a kind of its own, never zero.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// The kind.
    pub kind: SampleKind,
    /// The numbers as text, in the order of the answer; the beginning of an answer that is
    /// no number; empty for `Empty` and `Error`. Text keeps `NaN` and `+Inf`, and every digit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// The cause of an `Error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The kind of a result.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SampleKind {
    /// One number.
    Value,
    /// Several numbers.
    Series,
    /// Text, or JSON that is not made of numbers only.
    Json,
    /// No data.
    #[default]
    Empty,
    /// Series that have ended: the newest point is too old.
    Stale,
    /// One number that is none.
    NaN,
    /// No answer.
    Error,
}

/// Raw series of both arms at one tick.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Arms {
    /// The new version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<ArmEvidence>,
    /// The stable version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<ArmEvidence>,
}

/// Raw series of one arm.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ArmEvidence {
    /// Pods that were seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<i32>,
    /// Counters by their part: `bad`, `total`, `events`, `exposure`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counters: BTreeMap<String, f64>,
    /// Histogram buckets, not cumulated, by rising bound.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buckets: Vec<Bucket>,
    /// Gauges by pod.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub gauges: BTreeMap<String, f64>,
}

/// One histogram bucket.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Bucket {
    /// The upper bound as text, `+Inf` for the last.
    pub le: String,
    /// Events.
    pub count: f64,
}

/// The numbers behind a verdict.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// Sums of the new version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<ArmEvidence>,
    /// Sums of the stable version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<ArmEvidence>,
    /// New version over stable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// The lower end of the ratio's interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio_low: Option<f64>,
    /// The upper end of the ratio's interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio_high: Option<f64>,
    /// Natural logarithm of the evidence against the new version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_e: Option<f64>,
    /// Natural logarithm at which it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_boundary: Option<f64>,
    /// Natural logarithm of the evidence that it is harmless.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_e_pass: Option<f64>,
    /// Quantiles of a histogram, for people: no decision uses them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quantiles: Vec<QuantileEvidence>,
    /// Kayenta's score, 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
}

/// A quantile of a histogram in both versions.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct QuantileEvidence {
    /// Which: `p50`, `p90`, `p99`.
    pub quantile: String,
    /// Of the new version, interpolated in its bucket.
    pub canary: f64,
    /// Of the stable version.
    pub stable: f64,
    /// The bounds between which the new version's lies, with an error of 5% however often one looks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_low: Option<f64>,
    /// Absent: above the last bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_high: Option<f64>,
}

/// How the evidence of a comparison went: at most 240 points, evenly spaced. Natural logarithms in
/// hundredths, cut at 100 nats.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct EvidencePath {
    /// When the first point was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Time>,
    /// When the last one was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Time>,
    /// Ticks from one point to the next.
    #[serde(default)]
    pub every: i32,
    /// The evidence against the new version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 240))]
    pub log_e: Vec<i32>,
    /// The evidence that it is harmless.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 240))]
    pub log_e_pass: Vec<i32>,
    /// At which it fails.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 240))]
    pub log_boundary: Vec<i32>,
}
