//! Metric clients: one file each, one port, one shared pool.
//!
//! [`MetricSource`] is the port: the [`Pool`] asks real servers, the simulator answers by itself.
//! No client retries: the run's plan says when to ask again. Every error has a class, the address
//! and the server's own words; credentials never reach a message.

mod aws;
mod catalog;
mod cloudwatch;
mod datadog;
mod gate;
mod job;
mod jsonpath;
mod oauth2;
mod object;
mod plugin;
mod pool;
mod prometheus;
mod secrets;
mod server;
mod sigv4;
#[cfg(test)]
mod tests;
mod tls;
mod transport;
mod web;

use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};
use jiff::SignedDuration;

use crate::analysis::{ErrorKind, Outcome, Query, QueryError, Sample};
use crate::api::AnalysisPhase;
use crate::api::metric_provider::MetricProviderSpec;

pub use aws::AwsRole;
pub use catalog::{Catalog, ProviderId};
pub use oauth2::OAuth2Client;
pub use pool::{Pool, PoolError};
pub use secrets::{arguments, token};
pub use server::{Auth, Server};
pub(crate) use sigv4::hmac;
pub(crate) use tls::Tls;
pub(crate) use transport::causes;

/// Queries of one run that are asked at the same time.
const CONCURRENT: usize = 8;

/// An answer with what the provider warned of.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The values.
    pub sample: Sample,
    /// Warnings, for the run's status.
    pub warnings: Vec<String>,
}

/// Whatever answers queries.
pub trait MetricSource: Send + Sync {
    /// Asks once. The answer comes or fails within the query's timeout.
    fn query<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Answer, ProviderError>>;

    /// Measures once: what is no plain question takes longer or ends by itself.
    fn measure<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            match self.query(query).await {
                Ok(Answer { sample, warnings }) => Outcome::Answer { sample, warnings },
                Err(error) => Outcome::Error(error.into()),
            }
        })
    }

    /// Ends what a measurement left under way.
    fn cancel<'a>(&'a self, _query: &'a Query) -> BoxFuture<'a, Result<(), ProviderError>> {
        Box::pin(async { Ok(()) })
    }

    /// Is told what a provider that a query names is now; `None`: there is none.
    fn learn(&self, _id: &ProviderId, _spec: Option<&MetricProviderSpec>) {}
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// No connection, or it was lost.
    #[error("{0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("{0}")]
    Timeout(String),
    /// 429.
    #[error("{message}")]
    RateLimited {
        /// The server's words.
        message: String,
        /// How long it asks to be left alone.
        retry_after: Option<SignedDuration>,
    },
    /// Any other 4xx, and redirects.
    #[error("{0}")]
    Refused(String),
    /// 5xx.
    #[error("{0}")]
    Server(String),
    /// Not the documented answer.
    #[error("{0}")]
    Malformed(String),
    /// Nothing was asked, because the settings are wrong or missing.
    #[error("{0}")]
    Misconfigured(String),
}

impl From<ProviderError> for QueryError {
    fn from(error: ProviderError) -> Self {
        let (kind, retry_after) = match &error {
            ProviderError::Unreachable(_) => (ErrorKind::Unreachable, None),
            ProviderError::Timeout(_) => (ErrorKind::Timeout, None),
            ProviderError::RateLimited { retry_after, message: _ } => {
                (ErrorKind::RateLimited, *retry_after)
            }
            ProviderError::Refused(_) => (ErrorKind::Refused, None),
            ProviderError::Server(_) => (ErrorKind::Server, None),
            ProviderError::Malformed(_) => (ErrorKind::Malformed, None),
            ProviderError::Misconfigured(_) => (ErrorKind::Misconfigured, None),
        };
        Self { kind, message: error.to_string(), retry_after }
    }
}

/// Asks everything that is due, several at a time, and gives the outcomes in the order of `due`,
/// for `analysis::record_all`.
pub async fn run_due(source: &dyn MetricSource, due: Vec<Query>) -> Vec<(String, Outcome)> {
    stream::iter(due)
        .map(|query| async move {
            let outcome = source.measure(&query).await;
            (query.metric, outcome)
        })
        .buffered(CONCURRENT)
        .collect()
        .await
}

/// Ends what is under way, and gives the outcomes for `analysis::record_all`, with Argo's words.
pub async fn run_cancel(source: &dyn MetricSource, cancel: Vec<Query>) -> Vec<(String, Outcome)> {
    stream::iter(cancel)
        .map(|query| async move {
            let notes = query.asker.notes.clone().unwrap_or_default();
            let message = match source.cancel(&query).await {
                Ok(()) => "Metric Terminated".to_owned(),
                Err(error) => format!("Metric Terminated; it could not be ended: {error}"),
            };
            let (phase, message) = (AnalysisPhase::Inconclusive, Some(message));
            (query.metric, Outcome::Ended { phase, message, notes })
        })
        .buffered(CONCURRENT)
        .collect()
        .await
}
