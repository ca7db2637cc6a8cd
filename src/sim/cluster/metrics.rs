//! The metric source of the simulator: queries are answered from the series in memory.

use std::sync::{Arc, PoisonError};

use futures::future::{BoxFuture, FutureExt};

use crate::analysis::{Query, Sample};
use crate::clock::{Clock, SimClock};
use crate::providers::{Answer, MetricSource, ProviderError};
use crate::sim::promql::api::SharedTsdb;
use crate::sim::promql::{Engine, Value};

/// Answers PromQL from the store, at the simulated time.
pub struct Metrics {
    pub(super) db: SharedTsdb,
    pub(super) clock: Arc<SimClock>,
}

impl Metrics {
    fn ask(&self, text: &str) -> Result<Answer, ProviderError> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        let at = self.clock.now().as_millisecond();
        let value = Engine::default()
            .instant(&db, text, at)
            .map_err(|e| ProviderError::Refused(e.to_string()))?;
        let sample = match value {
            Value::Scalar(value) => Sample::Value(value),
            Value::Vector(samples) => {
                Sample::from_series(samples.iter().map(|s| s.value).collect())
            }
            Value::Matrix(_) | Value::String(_) => {
                return Err(ProviderError::Refused("the query gives no instant vector".into()));
            }
        };
        Ok(Answer { sample, warnings: Vec::new() })
    }
}

impl MetricSource for Metrics {
    fn query<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Answer, ProviderError>> {
        async move { self.ask(&query.text) }.boxed()
    }
}
