//! The cluster a person means, and the Rollouts in it.

use anyhow::{Context, anyhow};
use kube::api::{Api, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::args::Cluster;
use crate::api::Rollout;

/// Sets the one TLS provider of the process; a second call changes nothing.
pub fn install_crypto() {
    let _already = rustls::crypto::ring::default_provider().install_default();
}

impl Cluster {
    /// A client and the namespace.
    ///
    /// # Errors
    /// No usable kubeconfig and no service account.
    pub async fn connect(&self) -> anyhow::Result<(Client, String)> {
        install_crypto();
        let options = KubeConfigOptions { context: self.context.clone(), ..Default::default() };
        let config = match &self.kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path)
                    .with_context(|| format!("--kubeconfig {}", path.display()))?;
                Config::from_custom_kubeconfig(file, &options).await?
            }
            None if self.context.is_some() => Config::from_kubeconfig(&options).await?,
            None => Config::infer().await.context(
                "no cluster: set KUBECONFIG, pass --kubeconfig, or run sluice demo --keep for one",
            )?,
        };
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        Ok((Client::try_from(config)?, namespace))
    }
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
            let all = api.list(&ListParams::default()).await;
            let Ok(all) = all else {
                return Err(anyhow!(
                    "this cluster has no Rollouts (sluice.dev): run sluice install first"
                ));
            };
            let names: Vec<String> =
                all.items.into_iter().filter_map(|r| r.metadata.name).collect();
            if names.is_empty() {
                return Err(anyhow!("namespace {namespace} has no Rollouts; try -n or get -A"));
            }
            Err(anyhow!(
                "Rollout {name} not found in namespace {namespace}: there are {}",
                names.join(", ")
            ))
        }
        Err(error) => Err(anyhow!(error).context(format!("reading Rollout {namespace}/{name}"))),
    }
}
