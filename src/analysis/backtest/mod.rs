//! Try before you trust: every judge on the service's own past.
//!
//! A window of history in which nothing was released is a release without a change when some of the
//! stable pods play the canary ([`history`](super::history) cuts it): a judge that rolls it back is
//! wrong. The same window with a regression put into the canary ([`mod@inject`]) is a bad release: how soon
//! is it found? The judges are ours ([`ours`]), Kayenta's ([`kayenta`]), and the limits that people
//! write, counted as Argo and Flagger count them ([`limits`]) on their own queries ([`rule`]). All see
//! the same arms of the same raw series.
//!
//! No clock, no client; chance comes from a seed ([`chance`]). One window is looked at at a time. What is
//! kept of it are a few numbers ([`tally`]).

pub mod chance;
pub mod inject;
pub mod kayenta;
pub mod limits;
pub mod ours;
pub mod rule;
pub mod signal;
pub mod tally;

#[cfg(test)]
mod tests;

pub use chance::Draw;
pub use inject::{Feed, Injected, inject};
pub use rule::{Asked, Rule, RuleError};
pub use signal::Signal;
pub use tally::{Share, Summary, Tally};
