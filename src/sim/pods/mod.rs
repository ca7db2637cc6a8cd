//! The pods' own side of the data plane: how a version behaves, what it counts, and real HTTP
//! servers on loopback addresses that do both.
//!
//! [`advance`] is the same pod in virtual time, without sockets. Refused: request bodies that
//! matter, HTTPS, anything but answering.

mod behaviour;
mod counters;
mod serve;

pub use behaviour::{Answer, Behaviour, Behaviours, Cold, Latency};
pub use counters::{BOUNDS, PodCounters, advance};
pub use serve::{PodServers, PodServersError};

#[cfg(test)]
mod tests;
