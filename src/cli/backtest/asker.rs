//! A user's own query, asked of raw series in memory.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::analysis::arms::Arm;
use crate::analysis::backtest::Rule;
use crate::analysis::backtest::limits::Question;
use crate::analysis::{ErrorKind, Line, Outcome, QueryError, Sample};
use crate::sim::promql::{Engine, Labels, Series, Tsdb, Value};

/// Longer than any window.
const FOREVER_MS: i64 = 1 << 50;

fn failed(message: String) -> QueryError {
    QueryError { kind: ErrorKind::Refused, message, retry_after: None }
}

/// The series of some rules.
pub(super) struct Asker {
    engine: Engine,
    db: Tsdb,
}

impl Asker {
    /// `lines` gives the raw series at a place among all that is read. Series without a pod belong to
    /// both arms.
    pub(super) fn new<'a>(
        rules: &[Vec<Rule>],
        lines: impl Fn(usize) -> &'a [Line],
        pod_label: &str,
        canary: &BTreeSet<&str>,
    ) -> Self {
        let mut db = Tsdb::new(FOREVER_MS);
        let mut known = BTreeSet::new();
        for named in rules.iter().flatten().flat_map(|rule| &rule.series) {
            if !known.insert(&named.name) {
                continue;
            }
            for line in lines(named.asked) {
                let pod = line.labels.get(pod_label).filter(|pod| !pod.is_empty());
                let plays = pod
                    .is_none_or(|pod| (named.arm == Arm::Canary) == canary.contains(pod.as_str()));
                if !plays {
                    continue;
                }
                let pairs = line.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                let labels = Labels::new(&named.name, pairs);
                for (at, value) in &line.points {
                    // Points come in the order of time; one that does not is left out.
                    let _kept = db.append(&labels, at.as_millisecond(), *value);
                }
            }
        }
        Self { engine: Engine::default(), db }
    }

    /// The answer at a time, as the Prometheus client gives it.
    pub(super) fn sample(&self, rule: &Rule, at: Timestamp) -> Result<Sample, QueryError> {
        match self.engine.instant(&self.db, &rule.text, at.as_millisecond()) {
            Ok(Value::Scalar(value)) => Ok(Sample::Value(value)),
            Ok(Value::Vector(samples)) => {
                Ok(Sample::from_series(samples.into_iter().map(|one| one.value).collect()))
            }
            Ok(Value::Matrix(_) | Value::String(_)) => {
                Err(failed("the query answers with a range or a text".to_owned()))
            }
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// The same for a run.
    pub(super) fn outcome(&self, rule: &Rule, question: Question) -> Outcome {
        let sample = match question.since {
            None => self.sample(rule, question.at),
            Some((since, step)) => self.lines(rule, since, question.at, step),
        };
        sample.map_or_else(Outcome::Error, Outcome::from)
    }

    /// The answers from `since` to `until`, so far apart.
    fn lines(
        &self,
        rule: &Rule,
        since: Timestamp,
        until: Timestamp,
        step: SignedDuration,
    ) -> Result<Sample, QueryError> {
        let [since, until] = [since, until].map(Timestamp::as_millisecond);
        let step = i64::try_from(step.as_millis()).unwrap_or(i64::MAX);
        let found = self.engine.range(&self.db, &rule.text, since, until, step);
        let line = |series: Series| Line {
            labels: series.labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
            points: series
                .points
                .iter()
                .filter_map(|p| Some((Timestamp::from_millisecond(p.at_ms).ok()?, p.value)))
                .collect(),
        };
        let lines: Vec<Line> =
            found.map_err(|error| failed(error.to_string()))?.into_iter().map(line).collect();
        Ok(if lines.is_empty() { Sample::Empty } else { Sample::Lines(lines) })
    }
}
