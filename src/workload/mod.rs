//! Pure: how a workload is seen, moved, rested and restored.
//!
//! [`deployment`] is the one kind so far. A view is plain data; every decision is a [`Write`] that
//! `apply` carries out with the uid and resourceVersion of the view it was decided on.

pub mod deployment;
pub mod knob;
pub mod view;

pub use knob::{KnobPatch, Motion, Write};
pub use view::{DeploymentView, PodView, ReplicaSetView};

/// `minReadySeconds` under which a new pod never counts as available (Kruise's and ours).
pub const NEVER_READY_SECONDS: i32 = 2_147_483_646;
/// `progressDeadlineSeconds` under which the native controller never gives up.
pub const NEVER_LATE_SECONDS: i32 = 2_147_483_647;
/// The label by which the Deployment controller tells ReplicaSets apart.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";

#[cfg(test)]
pub(crate) mod tests;
