//! How a Rollout names the analysis that runs beside it: templates and their arguments.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::analysis::{DryRun, MeasurementRetention};
use super::common::{DurationSpec, FieldRef};
use super::rollout::PodMetadata;
use super::schema;

/// Which templates are run, with which arguments.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new(
        "has(self.templates) && size(self.templates) > 0"
    )
    .message(
        "must name at least one template; write `- templateName: NAME` under \
         templates"
    ),
    validation = Rule::new(
        "!has(self.args) || self.args.all(a, self.args.exists_one(b, b.name == \
         a.name))"
    )
    .message(
        "an argument is given twice; give each argument once"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisStanza {
    /// Added: a name, to tell several background analyses apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_name")]
    pub name: Option<String>,
    /// The templates. All their metrics run in one AnalysisRun.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub templates: Vec<TemplateRef>,
    /// Arguments for the templates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub args: Vec<AnalysisArg>,
    /// How long the analysis may take before `onInconclusive` applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<DurationSpec>,
    /// The first step (counted from 1) at which a background analysis runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 50))]
    pub starting_step: Option<i32>,
    /// Metrics that are measured and reported but never decide.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub dry_run: Vec<DryRun>,
    /// How many measurements of which metrics are kept in the run's status.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub measurement_retention: Vec<MeasurementRetention>,
    /// Labels and annotations of the AnalysisRun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis_run_metadata: Option<PodMetadata>,
}

/// A watch over the new version after its release.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Bake {
    /// How long it is watched.
    pub duration: DurationSpec,
    /// What is looked at. Endless metrics are ended with the duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<AnalysisStanza>,
}

/// A template by name.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TemplateRef {
    /// The AnalysisTemplate, or ClusterAnalysisTemplate when `clusterScope` is true.
    #[schemars(schema_with = "schema::object_name")]
    pub template_name: String,
    /// True names a ClusterAnalysisTemplate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cluster_scope: bool,
}

/// An argument: a value or where it comes from.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new(
        "has(self.value) != has(self.valueFrom)"
    )
    .message(
        "must have exactly one of value and valueFrom"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisArg {
    /// Name.
    #[schemars(schema_with = "schema::word")]
    pub name: String,
    /// The value itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub value: Option<String>,
    /// A value taken from the release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<ArgSource>,
}

/// A value taken from the release.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new(
        "has(self.podTemplateHashValue) != has(self.fieldRef)"
    )
    .message(
        "must have exactly one of podTemplateHashValue (Stable or Latest) and \
         fieldRef"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ArgSource {
    /// `Stable` or `Latest`: the pod template hash of that revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(Stable|Latest)$"), length(max = 6))]
    pub pod_template_hash_value: Option<String>,
    /// A field of the Rollout, as a path such as `metadata.labels['app']`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_ref: Option<FieldRef>,
}
