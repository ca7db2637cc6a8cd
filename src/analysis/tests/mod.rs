//! Runs from start to verdict. The rows of the assessment and the truth table are Argo's own test
//! cases, by their numbers; where a row differs the test's name says so.

mod argo;
mod argo_rows;
mod assess;
mod compare;
mod compose;
mod decide;
mod kayenta;
mod lint;
mod native;
mod policies;
mod properties;
mod reports;
mod run;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::*;
use crate::api::{AnalysisPhase, AnalysisRun, AnalysisRunSpec, Metric};

/// The start of every run in these tests.
const START: Timestamp = Timestamp::constant(1_700_000_000, 0);

fn at(seconds: i64) -> Timestamp {
    START + SignedDuration::from_secs(seconds)
}

/// A metric that asks `sum(x)`, with `fields` on top.
fn metric(name: &str, fields: Value) -> Metric {
    let mut value = json!({"name": name, "provider": {"prometheus": {"query": "sum(x)"}}});
    for (field, given) in fields.as_object().unwrap() {
        value[field] = given.clone();
    }
    serde_json::from_value(value).unwrap()
}

fn run_of(metrics: Vec<Metric>) -> AnalysisRun {
    let mut run = AnalysisRun::new("web-1", AnalysisRunSpec { metrics, ..Default::default() });
    run.metadata.namespace = Some("shop".to_owned());
    run
}

/// Plans at `now`, keeps the status, and returns the names that are due.
fn due(run: &mut AnalysisRun, now: Timestamp) -> Vec<String> {
    let plan = plan(run, now);
    run.status = Some(plan.status);
    plan.due.into_iter().map(|query| query.metric).collect()
}

/// Records one answer per metric and keeps the status.
fn answer(run: &mut AnalysisRun, answers: &[(&str, Outcome)], now: Timestamp) {
    let answers = answers.iter().map(|(name, o)| ((*name).to_owned(), o.clone())).collect();
    run.status = Some(record_all(run, answers, now));
}

fn one(value: f64) -> Outcome {
    Sample::Series(vec![value]).into()
}

fn down() -> Outcome {
    Outcome::Error(QueryError {
        kind: ErrorKind::Unreachable,
        message: "http://prometheus:9090: connection refused".to_owned(),
        retry_after: None,
    })
}

fn phase(run: &AnalysisRun) -> AnalysisPhase {
    run.status.as_ref().unwrap().phase.unwrap()
}

fn message(run: &AnalysisRun) -> &str {
    run.status.as_ref().unwrap().message.as_deref().unwrap_or_default()
}
