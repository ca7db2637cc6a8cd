//! The in-memory cluster.
mod alarms;
pub mod apiserver;
pub mod cel;
pub mod cluster;
pub mod controllers;
pub mod gateway;
pub mod hooks;
pub mod kubelet;
pub mod live;
pub mod load;
mod place;
pub mod plugins;
pub mod pods;
pub mod promql;
pub mod scenario;
pub mod schema;
