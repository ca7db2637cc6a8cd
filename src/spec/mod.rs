//! Parse, don't validate: what users wrote becomes checked domain types; every error names its
//! path, the value that stands there and what to write instead.
//!
//! Start at [`Plan::parse`]. What the API has but the engine has not is refused here, so that
//! nothing a user writes is silently passed over. Nothing here looks at a cluster.

pub mod analysis;
pub mod duration;
pub mod error;
pub mod plan;
pub mod step;
pub mod supported;
pub mod traffic;

pub use analysis::{AnalysisStanza, Arg, ArgValue, TemplateRef};
pub use duration::duration;
pub use error::SpecError;
pub use plan::{MOST_STEPS, Plan};
pub use step::{Pause, StepPlan, Traffic};
pub use traffic::TrafficRouting;
