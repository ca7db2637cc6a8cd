//! Keys of Secrets, read by name and never listed or watched.
//!
//! Only of the namespace that the caller gives: the provider's own, and for the cluster's the
//! controller's.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;

use super::ProviderError;
use crate::api::common::SecretKeyRef;

/// What is said of a Secret that does not exist.
const MISSING: &str = "not found: create it there";

/// The Secrets of one namespace that were read.
#[derive(Default)]
pub(super) struct Secrets {
    namespace: String,
    found: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
}

impl Secrets {
    /// Reads every Secret of `names` in `namespace`.
    ///
    /// # Errors
    /// The first that is missing or may not be read.
    pub(super) async fn read(
        client: Option<&kube::Client>,
        namespace: &str,
        names: impl IntoIterator<Item = &str>,
    ) -> Result<Self, ProviderError> {
        let mut found = BTreeMap::new();
        for name in names {
            if !found.contains_key(name) {
                found.insert(name.to_owned(), read(client, namespace, name).await?);
            }
        }
        Ok(Self { namespace: namespace.to_owned(), found })
    }

    /// The text of a key.
    ///
    /// # Errors
    /// No such key, or no text.
    pub(super) fn text(&self, at: &SecretKeyRef) -> Result<String, ProviderError> {
        let Self { namespace, found } = self;
        let SecretKeyRef { name, key } = at;
        let wrong = |what: String| ProviderError::Misconfigured(format!("{what}: correct it"));
        let bytes = found.get(name).and_then(|keys| keys.get(key)).ok_or_else(|| {
            wrong(format!("Secret {name:?} in namespace {namespace:?} has no key {key:?}"))
        })?;
        let text = String::from_utf8(bytes.clone()).map_err(|_| {
            wrong(format!("Secret {name:?} in namespace {namespace:?}: {key:?} is no text"))
        })?;
        Ok(text.trim_end_matches(['\n', '\r']).to_owned())
    }
}

/// The text of one key.
///
/// # Errors
/// It is missing or may not be read.
pub async fn token(
    client: &kube::Client,
    namespace: &str,
    at: &SecretKeyRef,
) -> Result<String, ProviderError> {
    Secrets::read(Some(client), namespace, [at.name.as_str()]).await?.text(at)
}

/// The values of Secrets that a run's arguments name. What is missing is left out, and the run says
/// so.
///
/// # Errors
/// A Secret that may not be read, or an API server that does not answer.
pub async fn arguments(
    client: &kube::Client,
    namespace: &str,
    refs: &[SecretKeyRef],
) -> Result<crate::analysis::Secrets, ProviderError> {
    let mut values = crate::analysis::Secrets::default();
    for at in refs {
        match Secrets::read(Some(client), namespace, [at.name.as_str()]).await {
            Ok(secrets) => {
                if let Ok(value) = secrets.text(at) {
                    values.insert(at, value);
                }
            }
            Err(ProviderError::Misconfigured(why)) if why.ends_with(MISSING) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(values)
}

async fn read(
    client: Option<&kube::Client>,
    namespace: &str,
    name: &str,
) -> Result<BTreeMap<String, Vec<u8>>, ProviderError> {
    let wrong = |why: String| {
        ProviderError::Misconfigured(format!("Secret {name:?} in namespace {namespace:?} {why}"))
    };
    let client = client.ok_or_else(|| wrong("cannot be read: there is no cluster".to_owned()))?;
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    match api.get_opt(name).await {
        Ok(Some(secret)) => {
            Ok(secret.data.unwrap_or_default().into_iter().map(|(k, v)| (k, v.0)).collect())
        }
        Ok(None) => Err(wrong(MISSING.to_owned())),
        Err(kube::Error::Api(status)) if status.code == 403 => Err(wrong(
            "may not be read: bind the ClusterRole sluice-secrets to the controller's service \
             account there, by a RoleBinding"
                .to_owned(),
        )),
        Err(error) => {
            Err(ProviderError::Unreachable(format!("Secret {name:?} in {namespace:?}: {error}")))
        }
    }
}
