//! The one integration test binary: each module is a tier or a part.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so by panicking"
)]

mod chart;
mod checkers;
mod controlplane;
mod crash;
mod crds;
mod demo;
mod fields;
mod install;
mod kubectl;
mod prometheus;
mod providers;
mod readme;
mod refusals;
mod scenarios;
mod sigkill;
mod simulation;
mod stories;
mod tidy;
mod traefik;
mod world;
