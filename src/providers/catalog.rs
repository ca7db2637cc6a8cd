//! Which server a query means: a provider by its name, the template's own address, or the default.
//!
//! A MetricProvider becomes a server when it is first asked: its Secrets are read in its own
//! namespace, for a ClusterMetricProvider in the controller's, and read again after a minute, after
//! a refusal of the credentials, and when the provider changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex as AsyncMutex;

use super::aws::{Aws, AwsRole};
use super::secrets::Secrets;
use super::server::secrets_of;
use super::{Auth, ProviderError, Server, web};
use crate::analysis::{Ask, Login, NamedProvider, Query};
use crate::api::common::SecretKeyRef;
use crate::api::metric_provider::{MetricProviderSpec, ProviderType};
use crate::clock::Clock;

/// How long a server is used before its Secrets are read again.
const FRESH: SignedDuration = SignedDuration::from_mins(1);

/// How long a failure is remembered, so that a thousand runs do not all read the same Secret.
const FAILED: SignedDuration = SignedDuration::from_secs(3);

/// A MetricProvider's name, or a ClusterMetricProvider's, which has no namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProviderId {
    /// The namespace; `None` for a ClusterMetricProvider.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

impl ProviderId {
    /// Whom a template in `namespace` means.
    #[must_use]
    pub fn of(named: &NamedProvider, namespace: &str) -> Self {
        let namespace = (!named.cluster).then(|| namespace.to_owned());
        Self { namespace, name: named.name.clone() }
    }

    fn kind(&self) -> &'static str {
        match self.namespace {
            Some(_) => "MetricProvider",
            None => "ClusterMetricProvider",
        }
    }

    fn unusable(&self, error: &ProviderError) -> ProviderError {
        let words = format!("{} {:?}: {error}", self.kind(), self.name);
        match error {
            ProviderError::Unreachable(_) => ProviderError::Unreachable(words),
            _ => ProviderError::Misconfigured(words),
        }
    }

    /// There is no such provider.
    #[must_use]
    pub fn missing(&self) -> ProviderError {
        let Self { namespace, name } = self;
        let kind = self.kind();
        ProviderError::Misconfigured(match namespace {
            None => format!("{kind} {name:?} not found: create it, or correct provider.ref"),
            Some(namespace) => format!(
                "{kind} {name:?} not found in namespace {namespace:?}: create it there, or set \
                 provider.clusterScope for a ClusterMetricProvider"
            ),
        })
    }
}

/// Servers that are known without a cluster.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// MetricProviders by namespace and name, or why one cannot be used.
    pub namespaced: BTreeMap<(String, String), Result<Server, ProviderError>>,
    /// ClusterMetricProviders by name.
    pub cluster: BTreeMap<String, Result<Server, ProviderError>>,
    /// The controller's default server.
    pub default: Option<Server>,
}

impl Catalog {
    fn named(&self, id: &ProviderId) -> Result<Arc<Server>, ProviderError> {
        let found = match &id.namespace {
            Some(namespace) => self.namespaced.get(&(namespace.clone(), id.name.clone())),
            None => self.cluster.get(&id.name),
        };
        match found {
            Some(Ok(server)) => Ok(Arc::new(server.clone())),
            Some(Err(error)) => Err(id.unusable(error)),
            None => Err(id.missing()),
        }
    }
}

/// What came of a provider, and until when it is used.
type Made = (Result<Arc<Server>, ProviderError>, Timestamp);

/// A provider and what came of it.
struct Known {
    spec: MetricProviderSpec,
    made: AsyncMutex<Option<Made>>,
}

/// Every server that can be asked.
pub(super) struct Servers {
    catalog: Catalog,
    known: Mutex<BTreeMap<ProviderId, Arc<Known>>>,
    cluster: Option<(kube::Client, String)>,
    clock: Arc<dyn Clock>,
}

impl Servers {
    pub(super) fn new(
        catalog: Catalog,
        cluster: Option<(kube::Client, String)>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { catalog, known: Mutex::default(), cluster, clock }
    }

    /// The cluster's client, for what the cluster itself is asked.
    ///
    /// # Errors
    /// There is no cluster.
    pub(super) fn client(&self) -> Result<&kube::Client, ProviderError> {
        self.cluster.as_ref().map(|(client, _)| client).ok_or_else(|| {
            let message = "there is no cluster here: this provider asks the API server";
            ProviderError::Misconfigured(message.to_owned())
        })
    }

    /// The server that a query means, with what the template adds.
    ///
    /// # Errors
    /// There is none, or it cannot be used.
    pub(super) async fn of(&self, query: &Query, aws: &Aws) -> Result<Server, ProviderError> {
        let source = &query.source;
        let named = match &source.named {
            None => None,
            Some(named) => {
                let id = ProviderId::of(named, &query.namespace);
                let server = self.named(&id).await?;
                check_type(&id, &server, &source.ask)?;
                Some(Server::clone(&server))
            }
        };
        let server = match (&source.ask, named, &source.address) {
            (Ask::Web(_), named, _) => web::server(&query.text, named)?,
            (_, Some(named), _) => named,
            (Ask::Datadog(ask), None, _) => {
                self.datadog(&query.namespace, ask.secret.as_deref().unwrap_or("datadog")).await?
            }
            (Ask::CloudWatch { .. }, None, _) => cloud_watch(aws, &source.login)?,
            (_, None, Some(address)) => Server::at(address)?,
            (_, None, None) => self.catalog.default.clone().ok_or_else(|| {
                ProviderError::Misconfigured(
                    "prometheus address is not configured: write provider.prometheus.address, name \
                     a MetricProvider by provider.ref, or give the controller a default address"
                        .to_owned(),
                )
            })?,
        };
        let server = server.with(source);
        match source.ask {
            Ask::Prometheus { .. } => signed(server, aws),
            _ => of_region(server, None, aws),
        }
    }

    /// The server of a provider: the one that was made lately, or a new one.
    async fn named(&self, id: &ProviderId) -> Result<Arc<Server>, ProviderError> {
        let Some(known) = self.known(id) else { return self.catalog.named(id) };
        let mut made = known.made.lock().await;
        if let Some((server, until)) = made.as_ref()
            && self.clock.now() < *until
        {
            return server.clone();
        }
        let server = self.make(id, &known.spec).await.map(Arc::new);
        let server = server.map_err(|error| id.unusable(&error));
        let lasts = if server.is_ok() { FRESH } else { FAILED };
        let until = self.clock.now().saturating_add(lasts).unwrap_or(Timestamp::MIN);
        *made = Some((server.clone(), until));
        server
    }

    async fn make(
        &self,
        id: &ProviderId,
        spec: &MetricProviderSpec,
    ) -> Result<Server, ProviderError> {
        let own = self.cluster.as_ref().map_or("", |(_, namespace)| namespace);
        let namespace = id.namespace.as_deref().unwrap_or(own);
        let client = self.cluster.as_ref().map(|(client, _)| client);
        let secrets = Secrets::read(client, namespace, secrets_of(spec)).await?;
        Server::from_spec(spec, |at| secrets.text(at))
    }

    /// Argo's Secret for Datadog, in the run's own namespace.
    async fn datadog(&self, namespace: &str, name: &str) -> Result<Server, ProviderError> {
        let client = self.cluster.as_ref().map(|(client, _)| client);
        let secrets = Secrets::read(client, namespace, [name]).await?;
        let text =
            |key: &str| secrets.text(&SecretKeyRef { name: name.to_owned(), key: key.to_owned() });
        let address = text("address").unwrap_or_else(|_| "https://api.datadoghq.com".to_owned());
        let mut server = Server::at(&address)?;
        for (header, key) in [("DD-API-KEY", "api-key"), ("DD-APPLICATION-KEY", "app-key")] {
            server.headers.push((header.to_owned(), text(key)?));
        }
        Ok(server)
    }

    /// Takes in what a provider is now; true when it is something else than before.
    pub(super) fn learn(&self, id: &ProviderId, spec: Option<&MetricProviderSpec>) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match (known.get(id), spec) {
            (Some(held), Some(spec)) if held.spec == *spec => false,
            (_, Some(spec)) => {
                let made = AsyncMutex::default();
                known.insert(id.clone(), Arc::new(Known { spec: spec.clone(), made }));
                true
            }
            (_, None) => known.remove(id).is_some(),
        }
    }

    /// Credentials that were refused may have been changed: they are read again next time.
    pub(super) async fn refresh(&self, id: &ProviderId) {
        if let Some(known) = self.known(id) {
            *known.made.lock().await = None;
        }
    }

    fn known(&self, id: &ProviderId) -> Option<Arc<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }
}

/// Amazon's own Prometheus is asked with a signature, as by Argo, whatever the template says.
fn signed(mut server: Server, aws: &Aws) -> Result<Server, ProviderError> {
    let host = server.address.host_str().unwrap_or_default().to_owned();
    let mut amazon = host.split('.').skip_while(|label| !label.starts_with("aps-workspaces"));
    let open = matches!(server.auth, Auth::None)
        && server.headers.iter().all(|(name, _)| !name.eq_ignore_ascii_case("authorization"));
    if amazon.next().is_some() && open {
        server.auth = Auth::SigV4(AwsRole::default());
    }
    of_region(server, amazon.next(), aws)
}

/// Who signs without a region has that of the address, or the controller's own.
fn of_region(mut server: Server, at: Option<&str>, aws: &Aws) -> Result<Server, ProviderError> {
    if let Auth::SigV4(role) = &mut server.auth
        && role.region.is_empty()
    {
        role.region = at.map_or_else(|| aws.region(), |region| Ok(region.to_owned()))?;
    }
    Ok(server)
}

/// CloudWatch of the controller's own region and identity.
fn cloud_watch(aws: &Aws, login: &Login) -> Result<Server, ProviderError> {
    let region = match login {
        Login::SigV4 { region, .. } if !region.is_empty() => region.clone(),
        _ => aws.region()?,
    };
    let mut server = Server::at(&aws.endpoint("CLOUDWATCH", "monitoring", &region))?;
    server.auth = Auth::SigV4(AwsRole { region, ..AwsRole::default() });
    Ok(server)
}

/// A MetricProvider speaks one language.
fn check_type(id: &ProviderId, server: &Server, ask: &Ask) -> Result<(), ProviderError> {
    let wanted = match ask {
        Ask::Prometheus { .. } => ProviderType::Prometheus,
        Ask::Web(_) => ProviderType::Web,
        Ask::Datadog(_) => ProviderType::Datadog,
        Ask::CloudWatch { .. } => ProviderType::CloudWatch,
        Ask::Plugin { .. } => ProviderType::Plugin,
        Ask::Job(_) | Ask::Object(_) => return Ok(()),
    };
    match server.type_ {
        Some(type_) if type_ != wanted => Err(ProviderError::Misconfigured(format!(
            "{} {:?} has type {type_:?} and the metric asks {wanted:?}: name another one",
            id.kind(),
            id.name
        ))),
        _ => Ok(()),
    }
}
