//! Pure: from templates and measurements to a verdict.
//!
//! Read in this order: [`build_run`] makes one AnalysisRun of several templates; [`plan`] says
//! which queries are due; [`record_all`] takes the answers; [`verdict`] is what a release reads. No
//! client, no clock. A release never passes and never fails on missing data: it waits, and says for
//! what.

pub mod args;
pub mod assess;
pub mod compose;
pub mod condition;
pub mod judge;
pub mod lint;
pub mod metric;
pub mod promql;
pub mod run;
pub mod sample;
pub mod source;
mod verdict;

#[cfg(test)]
mod tests;

pub use compose::{AnalysisError, NamedTemplate, ReleaseContext, build_run, flatten};
pub use lint::{Finding, Severity, lint_template};
pub use run::{Query, RunPlan, plan, record, record_all};
pub use sample::{ErrorKind, Outcome, QueryError, Sample};
pub use source::{NamedProvider, Source};
pub use verdict::{Verdict, verdict};
