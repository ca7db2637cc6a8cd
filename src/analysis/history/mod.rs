//! The service's own past as releases without a change: windows in which some of the stable pods play
//! the canary.
//!
//! [`Slice::read`] takes the answers of one window's range queries, [`cut`] draws the canary and makes
//! the ticks that a run would have seen, [`replay`] gives the evidence that the sequential judge would
//! have gathered. One window is held at a time. Which windows are left out is a rule that is fixed
//! before any evidence is seen ([`Unusable`]): whoever leaves windows out because of their evidence has
//! no promise left.

mod lines;
mod window;

#[cfg(test)]
mod tests;

pub use lines::Slice;
pub use window::{Cut, Unusable, Window, cut, replay, starts};
