//! The mathematics of judging a release: slices in, numbers out.
//!
//! Nothing here knows a metric, a clock, a server or chance. Logarithms and exponentials come from
//! `libm` or from sums in a fixed order, so that a verdict is replayed bit for bit on any processor.

#[cfg(test)]
mod allocations;
mod bits;
pub mod buckets;
pub mod combine;
pub mod conformal;
pub mod exposure;
pub mod gauge;
pub mod histogram;
pub mod interval;
mod lanes;
pub mod lattice;
pub mod mixture;
pub mod planner;
pub mod pods;
pub mod quantile;
pub mod rank;
pub mod rates;
#[cfg(test)]
pub(crate) mod recorded;
pub mod sort;
pub mod special;
pub mod zeroin;
