//! Requests from outside, and the scraper that turns the pods' counters into series.
//!
//! [`Load`] sends real requests at a fixed rate, whatever the answers do (open loop); in virtual
//! time [`VirtualTraffic`] routes and answers the same requests without sockets. [`Scraper`] reads
//! metrics pages, real or virtual, into a [`Tsdb`](super::promql::Tsdb). [`DataPlane`] and
//! [`VirtualPlane`] put all parts together: start reading there.

mod generator;
mod plane;
mod scraper;
mod virtual_time;

pub use generator::{Load, Outcomes, Visitor};
pub use plane::{DataPlane, PlaneOptions, VirtualPlane};
pub use scraper::{Page, Scraper, Target, scrape_over_http};
pub use virtual_time::VirtualTraffic;

#[cfg(test)]
mod tests;
