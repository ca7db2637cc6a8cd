//! What users write: the custom resources, their defaults and rules. No behaviour.
//!
//! Start at [`rollout`]; `crds/` is generated from these types and a test fails on drift.

pub mod analysis;
pub mod analysis_run;
pub mod around;
pub mod common;
pub mod compare;
pub mod crds;
pub mod gate;
pub mod hook_status;
pub mod kayenta;
pub mod metric_provider;
pub mod provider;
pub mod rollout;
pub mod routing;
mod schema;
pub mod stanza;
pub mod status;

pub use analysis::{AnalysisTemplate, AnalysisTemplateSpec, ClusterAnalysisTemplate, Metric};
pub use analysis_run::{
    AnalysisPhase, AnalysisRun, AnalysisRunSpec, AnalysisRunStatus, Measurement, MetricResult,
    Verdict,
};
pub use common::{Condition, DurationSpec, Time};
pub use gate::{Gate, GateEntry, GateSpec, KnobFields, LetGo};
pub use metric_provider::{ClusterMetricProvider, MetricProvider, MetricProviderSpec};
pub use rollout::{Rollout, RolloutSpec};
pub use status::RolloutStatus;

/// The API group of everything here.
pub const GROUP: &str = "sluice.dev";
/// The one served version.
pub const VERSION: &str = "v1beta1";
/// The field manager of every write the controller makes.
pub const FIELD_MANAGER: &str = "sluice";
/// The finalizer that keeps a Rollout until what it changed is restored.
pub const FINALIZER: &str = "sluice.dev/restore";
/// The annotation in which the hold policy notes what somebody wanted of a held field.
pub const WANTED_ANNOTATION: &str = "sluice.dev/wanted";
/// The name of the one Gate of a namespace.
pub const GATE_NAME: &str = "sluice";
