//! The in-memory cluster.
pub mod apiserver;
pub mod cel;
pub mod schema;
pub mod controllers;
pub mod kubelet;
pub mod promql;
pub mod gateway;
