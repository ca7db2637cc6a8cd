//! The shared clients and the servers that are known by name.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::future::BoxFuture;
use reqwest::Client;
use reqwest::redirect::Policy;

use super::{Answer, MetricSource, ProviderError, Server, prometheus};
use crate::analysis::{NamedProvider, Query};

/// Time for a connection to be made.
const CONNECT: Duration = Duration::from_secs(5);

/// The clients could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make an HTTP client")]
pub struct PoolError(#[source] reqwest::Error);

/// The servers that templates can name, or why one cannot be used.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// MetricProviders by namespace and name.
    pub namespaced: BTreeMap<(String, String), Result<Server, ProviderError>>,
    /// ClusterMetricProviders by name.
    pub cluster: BTreeMap<String, Result<Server, ProviderError>>,
    /// The controller's default server.
    pub default: Option<Server>,
}

/// Asks real servers. Cloning shares connections and servers.
#[derive(Debug, Clone)]
pub struct Pool {
    verifying: Client,
    trusting: Client,
    catalog: Arc<RwLock<Catalog>>,
}

impl Pool {
    /// A pool that knows the servers of `catalog`. Needs a process-wide TLS provider.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(catalog: Catalog) -> Result<Self, PoolError> {
        let client = |insecure| {
            Client::builder()
                .connect_timeout(CONNECT)
                .redirect(Policy::none())
                .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")))
                .tls_danger_accept_invalid_certs(insecure)
                .build()
                .map_err(PoolError)
        };
        Ok(Self {
            verifying: client(false)?,
            trusting: client(true)?,
            catalog: Arc::new(RwLock::new(catalog)),
        })
    }

    /// Replaces the servers, for example after a MetricProvider changed.
    pub fn replace(&self, catalog: Catalog) {
        *self.catalog.write().unwrap_or_else(PoisonError::into_inner) = catalog;
    }

    /// The server that a query means: by name, else by address, else the default.
    fn server(&self, query: &Query) -> Result<Server, ProviderError> {
        let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
        let server = match (&query.source.named, &query.source.address) {
            (Some(named), _) => catalog.named(named, &query.namespace)?,
            (None, Some(address)) => Server::at(address)?,
            (None, None) => catalog.default.clone().ok_or_else(|| {
                ProviderError::Misconfigured(
                    "prometheus address is not configured: write provider.prometheus.address, name \
                     a MetricProvider by provider.ref, or give the controller a default address"
                        .to_owned(),
                )
            })?,
        };
        Ok(server.with(&query.source))
    }
}

impl Catalog {
    fn named(&self, named: &NamedProvider, namespace: &str) -> Result<Server, ProviderError> {
        let name = &named.name;
        let (found, kind) = if named.cluster {
            (self.cluster.get(name), "ClusterMetricProvider")
        } else {
            (self.namespaced.get(&(namespace.to_owned(), name.clone())), "MetricProvider")
        };
        match found {
            Some(Ok(server)) => Ok(server.clone()),
            Some(Err(error)) => {
                Err(ProviderError::Misconfigured(format!("{kind} {name:?}: {error}")))
            }
            None if named.cluster => Err(ProviderError::Misconfigured(format!(
                "{kind} {name:?} not found: create it, or correct provider.ref"
            ))),
            None => Err(ProviderError::Misconfigured(format!(
                "{kind} {name:?} not found in namespace {namespace:?}: create it there, or set \
                 provider.clusterScope for a ClusterMetricProvider"
            ))),
        }
    }
}

impl MetricSource for Pool {
    fn query<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Answer, ProviderError>> {
        Box::pin(async move {
            let server = self.server(query)?;
            let client = if server.insecure { &self.trusting } else { &self.verifying };
            prometheus::ask(client, &server, &query.text).await
        })
    }
}
