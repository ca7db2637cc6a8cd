//! What the controller sees of a release while a run looks at it: plain data.

use std::collections::BTreeMap;

use jiff::Timestamp;

/// What no metric server can tell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// When the workload's pods were created, by name.
    pub created: BTreeMap<String, Timestamp>,
    /// The canary's share of the requests, from 0 to 1, that the routers have accepted. None where
    /// it is no share: by headers, or without a route.
    pub weight: Option<f64>,
}
