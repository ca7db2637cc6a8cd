//! The gateway of the in-memory cluster: it splits HTTP requests by HTTPRoute, as a Gateway API
//! implementation would, and writes the statuses such a controller writes.
//!
//! [`Table`], [`View`] and [`parents_status`] are pure; [`Controller`] is synchronous, so that the
//! virtual-time cluster uses it as it is; [`Gateway`] adds the sockets.
//!
//! It refuses: redirects, rewrites, response filters, backends in other namespaces, TLS. A rule
//! that asks for one of them answers 500 and the route's status says why.

mod controller;
mod definitions;
mod matching;
mod serve;
mod status;
mod table;
mod view;

pub use controller::Controller;
pub use definitions::definitions;
pub use matching::Request;
pub use serve::{Gateway, Seen, Tally};
pub use status::{CONTROLLER, Surroundings, class_status, gateway_status, parents_status};
pub use table::{Backend, HeaderChange, Outcome, RouteDecision, Rule, Share, Table, route};
pub use view::{Endpoint, Objects, View};

#[cfg(test)]
mod tests;
