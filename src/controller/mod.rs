//! The loop around the planner.
//!
//! [`engine`] reconciles one object: snapshot, plan, apply. It is the same in production and in the
//! simulator, which drives it by itself so that a seed gives a transcript.

pub mod engine;

pub use engine::{Engine, Outcome};
