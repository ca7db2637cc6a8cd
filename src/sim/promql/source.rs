//! The in-memory series as a [`MetricSource`]: analysis asks them as it asks a server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::{BoxFuture, FutureExt};
use jiff::Timestamp;
use serde_json::json;

use super::api::SharedTsdb;
use super::{Engine, Point, QueryError, Sample as VectorSample, Series, Value};
use crate::analysis::sample::number;
use crate::analysis::{Ask, Line, Query, Range, Sample};
use crate::api::MetricProviderSpec;
use crate::clock::Clock;
use crate::providers::{Answer, MetricSource, ProviderError, ProviderId};

/// Answers every Prometheus query from one store at the clock's time, whatever server it names; a
/// MetricProvider that is named must be known.
pub struct TsdbSource {
    engine: Engine,
    db: SharedTsdb,
    clock: Arc<dyn Clock>,
    known: Mutex<BTreeSet<ProviderId>>,
}

impl TsdbSource {
    /// A source over `db`.
    #[must_use]
    pub fn new(engine: Engine, db: SharedTsdb, clock: Arc<dyn Clock>) -> Self {
        Self { engine, db, clock, known: Mutex::default() }
    }

    /// Evaluates one query now. A vector's values come in the order of the answer, a matrix's
    /// points in one list, as the Prometheus client reads them.
    ///
    /// # Errors
    /// What a real server would refuse.
    pub fn ask(&self, query: &str) -> Result<Sample, ProviderError> {
        self.sample(query, None, false)
    }

    fn sample(
        &self,
        query: &str,
        range: Option<&Range>,
        labels: bool,
    ) -> Result<Sample, ProviderError> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let value = match range {
            None => self.engine.instant(&db, query, now.as_millisecond()),
            Some(Range { start, end, step }) => {
                let (start, end) = (start.at(now), end.at(now));
                let step = i64::try_from(step.as_millis()).unwrap_or(i64::MAX);
                let (start, end) = (start.as_millisecond(), end.as_millisecond());
                self.engine.range(&db, query, start, end, step).map(Value::Matrix)
            }
        };
        match value {
            Ok(Value::Scalar(value)) => Ok(Sample::Value(value)),
            Ok(Value::Vector(samples)) if labels => Ok(labelled(&samples)),
            Ok(Value::Vector(samples)) => {
                Ok(Sample::from_series(samples.into_iter().map(|s| s.value).collect()))
            }
            Ok(Value::Matrix(series)) if labels => lines(series),
            Ok(Value::Matrix(series)) => {
                let points = series.into_iter().flat_map(|s| s.points);
                Ok(Sample::from_series(points.map(|p| p.value).collect()))
            }
            Ok(Value::String(_)) => {
                Err(ProviderError::Malformed("the query answers with a string".to_owned()))
            }
            Err(QueryError::Parse(message)) => Err(ProviderError::Refused(message)),
            Err(error @ (QueryError::Unsupported(_) | QueryError::Execution(_))) => {
                Err(ProviderError::Refused(error.to_string()))
            }
        }
    }

    fn answer(&self, query: &Query) -> Result<Answer, ProviderError> {
        if let Some(named) = &query.source.named {
            let id = ProviderId::of(named, &query.namespace);
            if !self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(&id) {
                return Err(id.missing());
            }
        }
        let Ask::Prometheus { range } = &query.source.ask else {
            let message = "the simulator answers PromQL only: leave this metric out";
            return Err(ProviderError::Misconfigured(message.to_owned()));
        };
        let sample = self.sample(&query.text, range.as_ref(), query.labelled)?;
        Ok(Answer { sample, warnings: Vec::new() })
    }
}

/// A vector that keeps its labels, as the Prometheus client gives it for a labelled query.
fn labelled(samples: &[VectorSample]) -> Sample {
    let row = |one: &VectorSample| {
        let labels: BTreeMap<_, _> = one.labels.iter().collect();
        json!({ "labels": labels, "value": number(one.value) })
    };
    Sample::Json(samples.iter().map(row).collect())
}

/// A matrix that keeps its labels.
fn lines(series: Vec<Series>) -> Result<Sample, ProviderError> {
    let line = |one: Series| {
        let point = |point: &Point| Ok((Timestamp::from_millisecond(point.at_ms)?, point.value));
        let points = one.points.iter().map(point).collect::<Result<_, jiff::Error>>();
        let points = points.map_err(|error| ProviderError::Malformed(error.to_string()))?;
        let labels = one.labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Ok(Line { labels: labels.collect(), points })
    };
    let lines: Vec<Line> = series.into_iter().map(line).collect::<Result<_, _>>()?;
    Ok(if lines.is_empty() { Sample::Empty } else { Sample::Lines(lines) })
}

impl MetricSource for TsdbSource {
    fn query<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Answer, ProviderError>> {
        async move { self.answer(query) }.boxed()
    }

    fn learn(&self, id: &ProviderId, spec: Option<&MetricProviderSpec>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match spec {
            Some(_) => known.insert(id.clone()),
            None => known.remove(id),
        };
    }
}
