//! The one integration test binary: each module is a tier or a part.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so by panicking"
)]

mod aca;
mod admission;
mod alertmanager;
mod analyses;
mod analyze;
mod argo_shapes;
mod backtest;
mod badserver;
mod bounded;
mod calibration;
mod chart;
mod checkers;
mod cli;
mod controlplane;
mod crash;
mod crds;
mod demo;
mod example;
mod fields;
mod hooks;
mod install;
mod kubectl;
mod kubectl_live;
mod leader;
mod monitoring;
mod native;
mod outages;
mod prometheus;
mod providers;
mod proxy;
mod readme;
mod refusals;
mod refused;
mod releases;
mod scenarios;
mod sigkill;
mod simulation;
mod stories;
mod template_backtests;
mod template_releases;
mod templates;
mod tidy;
mod traefik;
mod uninstall;
mod world;
mod writes;
