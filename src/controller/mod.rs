//! The loop around the planner.
//!
//! [`engine`] reconciles one object: snapshot, plan, apply. It is the same in production and in the
//! simulator, which drives it by itself so that a seed gives a transcript.

mod counts;
pub mod engine;
mod lease;
mod run;
mod watch;

pub use engine::{Engine, Outcome};
pub use run::{RunError, Settings, run};
