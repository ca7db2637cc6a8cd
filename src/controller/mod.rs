//! The loop around the planner.
//!
//! [`engine`] reconciles one object: snapshot, plan, apply. It is the same in production and in the
//! simulator, which drives it by itself so that a seed gives a transcript.

mod calibration;
mod counts;
pub mod engine;
mod hooks;
mod lease;
mod pages;
mod pending;
mod run;
mod runs;
mod templates;
mod watch;

pub use engine::{Engine, Outcome};
pub use pages::Pages;
pub use run::{RunError, Settings, run};
