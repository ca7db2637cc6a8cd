//! The in-memory series as a [`MetricSource`]: analysis asks them as it asks a server.

use std::sync::{Arc, PoisonError};

use futures::future::{self, BoxFuture, FutureExt};

use super::api::SharedTsdb;
use super::{Engine, QueryError, Value};
use crate::analysis::{Query, Sample};
use crate::clock::Clock;
use crate::providers::{Answer, MetricSource, ProviderError};

/// Answers every Prometheus query from one store at the clock's time, whatever server it names.
pub struct TsdbSource {
    engine: Engine,
    db: SharedTsdb,
    clock: Arc<dyn Clock>,
}

impl TsdbSource {
    /// A source over `db`.
    #[must_use]
    pub fn new(engine: Engine, db: SharedTsdb, clock: Arc<dyn Clock>) -> Self {
        Self { engine, db, clock }
    }

    /// Evaluates one query now. A vector's values come in the order of the answer, a matrix's
    /// points in one list, as the Prometheus client reads them.
    ///
    /// # Errors
    /// What a real server would refuse.
    pub fn ask(&self, query: &str) -> Result<Sample, ProviderError> {
        let at_ms = self.clock.now().as_millisecond();
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        match self.engine.instant(&db, query, at_ms) {
            Ok(Value::Scalar(value)) => Ok(Sample::Value(value)),
            Ok(Value::Vector(samples)) => {
                Ok(Sample::from_series(samples.into_iter().map(|s| s.value).collect()))
            }
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
}

impl MetricSource for TsdbSource {
    fn query<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Answer, ProviderError>> {
        let answer = self.ask(&query.text).map(|sample| Answer { sample, warnings: Vec::new() });
        future::ready(answer).boxed()
    }
}
