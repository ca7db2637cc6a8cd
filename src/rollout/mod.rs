//! Pure: the release. [`plan`] turns what is seen and the time into everything that follows from it.
//!
//! Start at `machine.rs`: it asks the questions in the order in which they bind. `idle.rs` notices a
//! new version, `steps.rs` takes it through the steps, `back.rs`, `finish.rs` and `let_go.rs` are the
//! three ways out, `traffic.rs` moves traffic for all of them, `windows.rs`
//! and `hooks.rs` may hold what is about to begin, `overdue.rs` ends what lasts too long, `status.rs`
//! says it to people.
//!
//! Nothing here knows a client, a clock or chance: equal inputs give equal plans.

mod accepted;
mod analyses;
mod back;
mod bake;
mod calibration;
mod draft;
mod finish;
mod gate;
mod hook_call;
mod hooks;
mod idle;
pub mod invariants;
mod let_go;
mod lines;
mod machine;
mod notes;
mod overdue;
mod parts;
mod refusal;
mod requests;
mod snapshot;
mod status;
mod steps;
mod traffic;
mod types;
mod usable;
mod windows;
mod words;

pub use calibration::{Calibrating, CalibrationView, calibrating};
pub(crate) use draft::Draft;
pub use draft::plan;
pub use hook_call::{HookAnswer, HookCall, HookCalled, HookSeen};
pub use lines::is_needed;
pub use machine::PAUSED_BY_HAND;
pub use refusal::{Refusal, RefusedWrite, tell_refused};
pub use requests::PAUSED_BY;
pub use snapshot::{GateView, Proof, Snapshot};
pub use types::{Action, Disowned, EventNote, Plan, Urgency, WaitingOn};
pub use words::describe_action;

#[cfg(test)]
mod tests;
