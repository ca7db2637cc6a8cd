//! The in-memory cluster's own controllers: Deployments, ReplicaSets and EndpointSlices, as
//! Kubernetes 1.36 has them.
//!
//! The decisions are pure functions from plain objects to writes: [`deployment::sync`],
//! [`replicaset::sync`], [`endpoints::sync`]. The driver around them is [`Controllers`]: one pass
//! at a time, in a fixed order, without threads, so that a simulation repeats itself exactly.
//! Garbage is collected by the API server itself.

mod claim;
pub mod deployment;
mod driver;
pub mod endpoints;
pub(crate) mod object;
pub mod replicaset;
mod store;

#[cfg(test)]
mod tests;

pub use driver::Controllers;
pub use object::{Outcome, Write};
