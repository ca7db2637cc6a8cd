//! Sluice: progressive delivery for Kubernetes.
//!
//! Observe, plan, apply: a pure planner turns a snapshot of the cluster and the time into a status,
//! a list of fully decided actions, the next wake-up and the reason for waiting; everything else is
//! an adapter around it.
//!
//! ```text
//!         watches, stores            pure, synchronous, deterministic              the only writer
//! cluster --------------> observe ---> rollout::plan ---> Plan --------> apply ----------> cluster
//! ```

pub mod analysis;
pub mod api;
pub mod apply;
pub mod cli;
pub mod clock;
pub mod controller;
pub mod observe;
pub mod providers;
pub mod rollout;
pub mod server;
pub mod sim;
pub mod spec;
pub mod telemetry;
pub mod traffic;
pub mod units;
pub mod workload;
