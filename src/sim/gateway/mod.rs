//! The gateway of the in-memory cluster: it splits HTTP requests by HTTPRoute, as a Gateway API
//! implementation would, and writes the statuses such a controller writes.
//!
//! [`Table`] and [`parents_status`] are pure; the virtual-time cluster uses them alone.
//!
//! It refuses: redirects, rewrites, response filters, backends in other namespaces, TLS. A rule that
//! asks for one of them answers 500 and the route's status says why.

mod matching;
mod status;
mod table;

pub use matching::Request;
pub use status::{CONTROLLER, Surroundings, class_status, gateway_status, parents_status};
pub use table::{Backend, HeaderChange, Outcome, RouteDecision, Rule, Share, Table, route};

#[cfg(test)]
mod tests;
