//! Nodes and the pods on them: pods are bound, started, made ready or not, and removed.
//!
//! What happens to one pod is decided by the pure function [`next`]; two drivers act on it: the
//! in-process [`Nodes`] on our own API server, and [`remote`] on a real one. No container is run:
//! a pod behaves as its images say, see [`Behaviours`]. Refused: init containers (taken as done),
//! probes, resources, taints, affinity; every pod goes to the node with the fewest.

mod behaviour;
mod decide;
mod nodes;
pub mod remote;
mod status;
#[cfg(test)]
mod tests;

pub use behaviour::{Behaviour, Behaviours};
pub use decide::{Next, Place, PodWrite, next};
pub use nodes::{Addresses, Nodes, settle};
pub use status::node;
