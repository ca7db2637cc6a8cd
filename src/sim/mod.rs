//! The in-memory cluster.
pub mod apiserver;
pub mod cel;
pub mod cluster;
pub mod controllers;
pub mod gateway;
pub mod kubelet;
pub mod live;
pub mod load;
pub mod plugins;
pub mod pods;
pub mod promql;
pub mod scenario;
pub mod schema;
