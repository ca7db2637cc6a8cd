//! Parse, don't validate: what users wrote becomes checked domain types; every error names its
//! path, the value that stands there and what to write instead.
//!
//! Start at [`Plan::parse`]. What the API has but the engine has not is refused here, so that
//! nothing a user writes is silently passed over. Nothing here looks at a cluster.

pub mod analysis;
pub mod calibration;
pub mod cron;
pub mod duration;
pub mod error;
pub mod hooks;
pub mod plan;
pub mod step;
pub mod supported;
pub mod traffic;
pub mod windows;

pub use analysis::{AnalysisStanza, Arg, ArgValue, Bake, TemplateRef};
pub use calibration::CalibrationPlan;
pub use cron::Cron;
pub use duration::duration;
pub use error::SpecError;
pub use hooks::HookPlan;
pub use plan::{MOST_STEPS, Plan};
pub use step::{Pause, StepPlan, Traffic};
pub use traffic::{RouteKind, RouteRef, TrafficRouting};
pub use windows::{Calendar, Closed, Recurring};
