//! The cluster a person means, and the Rollouts in it.

use anyhow::anyhow;
use kube::api::{Api, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use super::args::Cluster;
use crate::api::Rollout;
use crate::apply::{ApplyError, Class};

/// How often a server that is busy is asked once more, [`BREATH`] apart: five seconds. A definition that
/// was just created or changed answers with 503 for about one.
const BUSY: usize = 20;
/// Between two of them.
const BREATH: std::time::Duration = std::time::Duration::from_millis(250);

/// Sets the one TLS provider of the process; a second call changes nothing.
pub fn install_crypto() {
    let _already = rustls::crypto::ring::default_provider().install_default();
}

impl Cluster {
    /// A client for a person who waits for the answer, and the namespace.
    ///
    /// # Errors
    /// No usable kubeconfig and no service account.
    pub async fn connect(&self) -> anyhow::Result<(Client, String)> {
        let mut config = self.config().await?;
        let patience = Some(self.request_timeout).filter(|span| !span.is_zero());
        config.connect_timeout = patience;
        config.read_timeout = patience;
        // A person hears of a busy server at once.
        config.default_retry = false;
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        Ok((Client::try_from(config)?, namespace))
    }

    /// A client that also keeps watches open on which nothing happens for minutes.
    ///
    /// # Errors
    /// No usable kubeconfig and no service account.
    pub async fn connect_for_long(&self) -> anyhow::Result<Client> {
        Ok(Client::try_from(self.config().await?)?)
    }

    async fn config(&self) -> anyhow::Result<Config> {
        install_crypto();
        let options = KubeConfigOptions { context: self.context.clone(), ..Default::default() };
        Ok(match &self.kubeconfig {
            Some(path) => {
                let at = format!("--kubeconfig {}", path.display());
                let file = Kubeconfig::read_from(path).map_err(|e| unusable(&at, &e))?;
                let config = Config::from_custom_kubeconfig(file, &options).await;
                config.map_err(|e| unusable(&at, &e))?
            }
            None if self.context.is_some() => {
                let config = Config::from_kubeconfig(&options).await;
                config.map_err(|e| unusable(&where_from(), &e))?
            }
            // Its words are whole: its sources say them again.
            None => Config::infer().await.map_err(|e| {
                anyhow!(
                    "no cluster in {}: set KUBECONFIG, pass --kubeconfig, or run sluice demo --keep \
                     for one: {e}",
                    where_from()
                )
            })?,
        })
    }
}

/// Where a kubeconfig is looked for when none is named.
fn where_from() -> String {
    match std::env::var("KUBECONFIG") {
        Ok(path) => format!("KUBECONFIG={path}"),
        Err(_) => "~/.kube/config".to_owned(),
    }
}

/// A kubeconfig that gives no cluster, said once: the error's words have those of its sources in them.
fn unusable(at: &str, error: &KubeconfigError) -> anyhow::Error {
    match error {
        KubeconfigError::LoadContext(name) => {
            anyhow!("{at} has no context {name}: kubectl config get-contexts lists those it has")
        }
        error => anyhow!("{at}: {error}"),
    }
}

/// Asks again while the server says that it is busy (429, 5xx). For work of many requests, where a person
/// would have to begin again because of one; silence is not waited for a second time.
///
/// # Errors
/// The last answer, or the first that is no question of time.
pub(crate) async fn patiently<T>(
    mut ask: impl AsyncFnMut() -> Result<T, ApplyError>,
) -> Result<T, ApplyError> {
    for _ in 0..BUSY {
        match ask().await {
            Err(e) if e.class() == Class::Transient && !matches!(e.code(), None | Some(401)) => {
                tokio::time::sleep(BREATH).await;
            }
            answer => return answer,
        }
    }
    ask().await
}

/// One Rollout, or a sentence that says what there is instead.
///
/// # Errors
/// It does not exist, or the API server refuses.
pub async fn find(client: &Client, namespace: &str, name: &str) -> anyhow::Result<Rollout> {
    let api: Api<Rollout> = Api::namespaced(client.clone(), namespace);
    match api.get(name).await {
        Ok(rollout) => Ok(rollout),
        Err(kube::Error::Api(status)) if status.code == 404 => {
            let all = list(&api).await?;
            let names: Vec<String> = all.into_iter().filter_map(|r| r.metadata.name).collect();
            if names.is_empty() {
                return Err(anyhow!("namespace {namespace} has no Rollouts; try -n or get -A"));
            }
            Err(anyhow!(
                "Rollout {name} not found in namespace {namespace}: there are {}",
                names.join(", ")
            ))
        }
        Err(error) => {
            Err(ApplyError::from_kube(&format!("reading Rollout {namespace}/{name}"), error).into())
        }
    }
}

/// Every Rollout, or a sentence that says why there can be none.
///
/// # Errors
/// Sluice is not installed, or the API server refuses.
pub async fn list(api: &Api<Rollout>) -> anyhow::Result<Vec<Rollout>> {
    match api.list(&ListParams::default()).await {
        Ok(list) => Ok(list.items),
        Err(kube::Error::Api(status)) if status.code == 404 => {
            Err(anyhow!("this cluster has no Rollouts (sluice.dev): run sluice install first"))
        }
        Err(error) => Err(ApplyError::from_kube("listing Rollouts", error).into()),
    }
}

/// What a person can do about an error of the API server's, or about its silence.
#[must_use]
pub fn remedy(error: &anyhow::Error) -> Option<&'static str> {
    error.chain().find_map(|cause| {
        if let Some(ApplyError::Encoding { .. }) = cause.downcast_ref() {
            return Some(
                "what answers is no API server, or is one of another version: does a proxy or a \
                 login page stand before it? check the address in the kubeconfig",
            );
        }
        let code = match (cause.downcast_ref::<kube::Error>(), cause.downcast_ref::<ApplyError>()) {
            (Some(kube::Error::Api(status)), _) => Some(status.code),
            (Some(kube::Error::Auth(_)), _) => Some(401),
            (Some(kube::Error::Service(_) | kube::Error::HyperError(_)), _) => None,
            (_, Some(error)) => error.code(),
            _ => return None,
        };
        Some(match code {
            None => {
                "the API server does not answer: check that it runs and that the address in the \
                 kubeconfig is right, or wait longer with --request-timeout"
            }
            Some(401) => {
                "the API server does not accept these credentials: log in again, or choose \
                 others with --kubeconfig or --context"
            }
            Some(403) => {
                "this account lacks the permission: ask for it (kubectl auth can-i --list), or \
                 choose another account with --kubeconfig or --context"
            }
            Some(404) => "install what is missing: sluice install",
            Some(409) => "somebody else wrote in between: try again",
            Some(429) => "the API server has too much to do: try again in a minute",
            Some(500..) => {
                "the API server has a problem of its own: see kubectl get --raw /readyz, and try \
                 again"
            }
            Some(_) => "correct the object, or the policy that refuses it",
        })
    })
}
