//! A small Prometheus: series in memory, an evaluator over `promql-parser`'s syntax tree, the text
//! exposition format and the HTTP query API. It exists so that the in-memory cluster answers the
//! very queries a user's analysis template asks, with the same numbers; the oracle is a real
//! Prometheus (`tests/it/prometheus.rs`).
//!
//! What it refuses: native histograms, exemplars, rules, storage on disk. Syntax that it does not
//! know is an error that names it, never an empty answer.
//!
//! Start reading at [`Engine::instant`]; [`Tsdb`] holds the samples, [`api::respond`] speaks HTTP.

mod aggregate;
pub mod api;
mod binary;
mod eval;
mod exposition;
mod functions;
mod histogram;
mod labels;
mod over_time;
mod source;
mod tsdb;

pub use eval::{Dialect, Engine, QueryError, Sample, Series, Value};
pub use exposition::{Exposed, ExpositionError, parse_exposition};
pub use labels::Labels;
pub use source::TsdbSource;
pub use tsdb::{Point, Tsdb, TsdbError, is_stale, stale_marker};

#[cfg(test)]
mod tests;
