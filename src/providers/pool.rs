//! The pool: every query of every run goes through it.
//!
//! Identical questions of one second are asked once. A server is asked at most so many queries at a
//! time and a second, and left alone for a while when it says that it is too much. What waits for
//! one server never keeps another from being asked.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use reqwest::Client;

use super::aws::Aws;
use super::catalog::Servers;
use super::gate::Gate;
use super::oauth2::Tokens;
use super::transport::Link;
use super::{
    Answer, Catalog, MetricSource, ProviderError, ProviderId, Server, cloudwatch, datadog, job,
    object, plugin, prometheus, tls, web,
};
use crate::analysis::{Ask, NamedProvider, Outcome, Query, Source};
use crate::api::metric_provider::MetricProviderSpec;
use crate::clock::{Clock, SystemClock};

/// Answers and gates that are kept; what nobody waits for goes first.
pub(super) const MOST: usize = 4_096;

/// The clients could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make an HTTP client")]
pub struct PoolError(#[source] reqwest::Error);

/// Asks real servers. Cloning shares connections and servers.
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

struct Inner {
    verifying: Client,
    trusting: Client,
    servers: Servers,
    tokens: Tokens,
    aws: Aws,
    gates: Mutex<BTreeMap<String, Arc<Gate>>>,
    asked: Mutex<Book>,
    clock: Arc<dyn Clock>,
}

/// What makes two queries the same.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Question {
    namespace: String,
    source: Source,
    text: String,
    labelled: bool,
}

/// The questions that are under way, and the answers of one second: each may have megabytes.
#[derive(Default)]
struct Book {
    tick: i64,
    asked: BTreeMap<Question, Asked>,
}

/// A question under way or answered, and the second in which it was asked.
struct Asked {
    tick: i64,
    answer: Shared<BoxFuture<'static, Result<Answer, ProviderError>>>,
}

impl Pool {
    /// A pool that knows the servers of `catalog`. Needs a process-wide TLS provider.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(catalog: Catalog) -> Result<Self, PoolError> {
        Self::made(catalog, None, Arc::new(SystemClock))
    }

    /// A pool that reads Secrets through `client`: a provider's own in its namespace, a
    /// ClusterMetricProvider's in `namespace`, the controller's.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn in_cluster(
        catalog: Catalog,
        client: kube::Client,
        namespace: impl Into<String>,
    ) -> Result<Self, PoolError> {
        let cluster = Some((client, namespace.into()));
        Self::made(catalog, cluster, Arc::new(SystemClock))
    }

    /// A pool of these parts.
    pub(super) fn made(
        catalog: Catalog,
        cluster: Option<(kube::Client, String)>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, PoolError> {
        Ok(Self(Arc::new(Inner {
            verifying: tls::base(false).build().map_err(PoolError)?,
            trusting: tls::base(true).build().map_err(PoolError)?,
            servers: Servers::new(catalog, cluster, Arc::clone(&clock)),
            tokens: Tokens::default(),
            aws: Aws::default(),
            gates: Mutex::default(),
            asked: Mutex::default(),
            clock,
        })))
    }

    /// What a Prometheus answers to `/api/v1/alerts`: the one that `named` says, or the default.
    ///
    /// # Errors
    /// There is none, it cannot be used, or it refuses.
    pub async fn firing(&self, named: Option<NamedProvider>) -> Result<Vec<u8>, ProviderError> {
        let query = Query { source: Source { named, ..Source::default() }, ..Query::default() };
        let server = self.0.servers.of(&query, &self.0.aws).await?;
        let asked = self.0.through(&query, &server, |link| async move {
            let request = link.client.get(link.server.below("/api/v1/alerts"));
            let reply = link.send(request.header("accept", "application/json")).await?;
            link.accept(reply, |_| None)
        });
        asked.await
    }

    /// How many answers and gates are kept.
    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        let asked = self.0.asked.lock().unwrap_or_else(PoisonError::into_inner).asked.len();
        (asked, self.0.gates.lock().unwrap_or_else(PoisonError::into_inner).len())
    }

    /// The answer to a question that may be shared: of one that is under way, of one that was answered
    /// in this second, or a new one.
    fn shared(&self, query: &Query) -> Shared<BoxFuture<'static, Result<Answer, ProviderError>>> {
        let tick = self.0.clock.now().as_second();
        let question = Question::of(query);
        let mut book = self.0.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if book.tick != tick || book.asked.len() >= MOST {
            book.asked.retain(|_, asked| asked.answer.peek().is_none());
            book.tick = tick;
        }
        if let Some(Asked { tick: then, answer }) = book.asked.get(&question) {
            let good = answer.peek().is_none_or(|answer| answer.is_ok() && *then == tick);
            if good {
                return answer.clone();
            }
        }
        let (pool, query) = (self.clone(), query.clone());
        let asking = async move {
            // A panic would leave a question behind that is never answered and never goes.
            let asked = AssertUnwindSafe(pool.0.ask(&query)).catch_unwind().await;
            asked.unwrap_or_else(|_| {
                let message = "the query cannot be asked: it is a defect of Sluice";
                Err(ProviderError::Misconfigured(message.to_owned()))
            })
        };
        let answer = asking.boxed().shared();
        book.asked.insert(question, Asked { tick, answer: answer.clone() });
        answer
    }
}

impl Question {
    fn of(query: &Query) -> Self {
        let Query { namespace, source, text, labelled, metric: _, asker: _ } = query;
        let cluster = source.named.as_ref().is_some_and(|named| named.cluster);
        let secret = matches!(&source.ask, Ask::Datadog(ask) if ask.secret.is_some());
        let local = source.named.is_some() && !cluster || secret;
        Self {
            namespace: if local { namespace.clone() } else { String::new() },
            source: source.clone(),
            text: text.clone(),
            labelled: *labelled,
        }
    }
}

impl Inner {
    async fn ask(&self, query: &Query) -> Result<Answer, ProviderError> {
        let server = self.servers.of(query, &self.aws).await?;
        self.through(query, &server, |link| async move {
            match &query.source.ask {
                Ask::Prometheus { range } => prometheus::ask(&link, query, range.as_ref()).await,
                Ask::Web(ask) => web::ask(&link, ask).await,
                Ask::Datadog(ask) => datadog::ask(&link, ask).await,
                Ask::CloudWatch { window } => cloudwatch::ask(&link, &query.text, *window).await,
                Ask::Job(_) | Ask::Object(_) | Ask::Plugin { .. } => {
                    let message = "this is measured, not asked: it is a defect of Sluice";
                    Err(ProviderError::Misconfigured(message.to_owned()))
                }
            }
        })
        .await
    }

    async fn plugin(&self, name: &str, query: &Query) -> Result<Outcome, ProviderError> {
        let server = self.servers.of(query, &self.aws).await?;
        self.through(
            query,
            &server,
            |link| async move { plugin::measure(&link, name, query).await },
        )
        .await
    }

    /// Asks through the server's gate.
    async fn through<'a, T, F>(
        &'a self,
        query: &Query,
        server: &'a Server,
        ask: impl FnOnce(Link<'a>) -> F,
    ) -> Result<T, ProviderError>
    where
        F: Future<Output = Result<T, ProviderError>>,
    {
        let gate = self.gate(query, server);
        let limit = Duration::try_from(server.timeout).unwrap_or_default();
        let _place = gate.enter(limit).await?;
        let answer = ask(self.link(&query.source.ask, server)).await;
        gate.learn(answer.as_ref().err());
        if let (Err(ProviderError::Refused(_)), Some(named)) = (&answer, &query.source.named) {
            self.servers.refresh(&ProviderId::of(named, &query.namespace)).await;
        }
        answer
    }

    fn link<'a>(&'a self, ask: &Ask, server: &'a Server) -> Link<'a> {
        let shared = if server.insecure { &self.trusting } else { &self.verifying };
        Link {
            server,
            client: server.client.as_ref().unwrap_or(shared),
            issuer: server.issuer.as_ref().unwrap_or(&self.verifying),
            tokens: &self.tokens,
            aws: &self.aws,
            service: service(ask),
            clock: self.clock.as_ref(),
        }
    }

    /// The gate of a server: each provider has its own, and each address that templates write.
    fn gate(&self, query: &Query, server: &Server) -> Arc<Gate> {
        let owner = match &query.source.named {
            Some(named) if named.cluster => format!("/{}", named.name),
            Some(named) => format!("{}/{}", query.namespace, named.name),
            None => server.address.origin().ascii_serialization(),
        };
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = gates.get(&owner).filter(|gate| gate.is_for(server)) {
            return Arc::clone(gate);
        }
        if gates.len() >= MOST {
            gates.retain(|_, gate| Arc::strong_count(gate) > 1);
        }
        let gate = Arc::new(Gate::of(server));
        gates.insert(owner, Arc::clone(&gate));
        gate
    }
}

/// AWS' name of what is asked.
fn service(ask: &Ask) -> &'static str {
    match ask {
        Ask::Prometheus { .. } => "aps",
        Ask::CloudWatch { .. } => "monitoring",
        Ask::Web(_) | Ask::Datadog(_) | Ask::Job(_) | Ask::Object(_) | Ask::Plugin { .. } => {
            "execute-api"
        }
    }
}

impl MetricSource for Pool {
    fn query<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Answer, ProviderError>> {
        // The points of a window are megabytes, and nobody else asks for them.
        let window = query.labelled && query.source.ask.is_range();
        match query.source.ask.is_pure() && !window {
            true => Box::pin(self.shared(query)),
            false => Box::pin(self.0.ask(query)),
        }
    }

    fn measure<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let inner = &self.0;
            let now = inner.clock.now();
            let measured = match &query.source.ask {
                Ask::Job(ask) => match inner.servers.client() {
                    Ok(client) => job::measure(client, ask, query, now).await,
                    Err(error) => Err(error),
                },
                Ask::Object(ask) => match inner.servers.client() {
                    Ok(client) => object::measure(client, ask, query).await,
                    Err(error) => Err(error),
                },
                Ask::Plugin { name } => inner.plugin(name, query).await,
                Ask::Prometheus { .. } | Ask::Web(_) | Ask::Datadog(_) | Ask::CloudWatch { .. } => {
                    self.query(query)
                        .await
                        .map(|Answer { sample, warnings }| Outcome::Answer { sample, warnings })
                }
            };
            measured.unwrap_or_else(|error| Outcome::Error(error.into()))
        })
    }

    fn cancel<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<(), ProviderError>> {
        Box::pin(async move {
            let inner = &self.0;
            match &query.source.ask {
                Ask::Job(_) => job::cancel(inner.servers.client()?, query).await,
                Ask::Plugin { name } => {
                    let server = inner.servers.of(query, &inner.aws).await?;
                    plugin::cancel(&inner.link(&query.source.ask, &server), name, query).await
                }
                _ => Ok(()),
            }
        })
    }

    fn learn(&self, id: &ProviderId, spec: Option<&MetricProviderSpec>) {
        if self.0.servers.learn(id, spec) {
            self.0.asked.lock().unwrap_or_else(PoisonError::into_inner).asked.clear();
        }
    }
}
