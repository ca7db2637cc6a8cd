//! Pure: from templates and measurements to a verdict.
//!
//! Read in this order: [`build_run`] makes one AnalysisRun of several templates; [`plan`] says
//! which queries are due; [`record_all`] takes the answers; [`verdict`] is what a release reads. No
//! client, no clock. A release never passes and never fails on missing data: it waits, and says for
//! what.

pub mod args;
pub mod arms;
mod ask;
pub mod assess;
pub mod backtest;
pub mod calibration;
pub mod compare;
pub mod compose;
pub mod condition;
mod decide;
pub mod history;
pub mod judge;
pub mod kayenta;
pub mod lint;
mod measure;
pub mod metric;
pub mod observed;
mod path;
pub mod promql;
pub mod range;
pub mod run;
pub mod sample;
pub mod source;
mod verdict;

#[cfg(test)]
mod tests;

pub use args::Secrets;
pub use ask::{DatadogAsk, JobAsk, ObjectAsk, WebAsk};
pub use compare::continued;
pub use compose::{AnalysisError, NamedTemplate, ReleaseContext, build_run, flatten};
pub use lint::{
    Finding, Severity, TemplateKey, lint_endless, lint_references, lint_template, look_at_template,
};
pub use observed::Observed;
pub use range::RangeTime;
pub use run::{
    Asker, Query, RunPlan, left_under_way, plan, plan_with, record, record_all, record_all_with,
    secrets_needed,
};
pub use sample::{ErrorKind, Line, Outcome, QueryError, Sample};
pub use source::{Ask, Login, NamedProvider, Range, Source};
pub use verdict::{ENDLESS_REMEDY, Verdict, blind, endless_step, is_endless, never_ends, verdict};
