//! A wish of a status write, as a person's verb makes it.

use super::error::{ApplyError, Class};
use super::request::Http;
use crate::api::Rollout;
use crate::api::status::{Request, RequestVerb};

/// How often a write that met another one is tried again.
const TRIES: usize = 3;

/// Writes what `wanted` says of the newest Rollout into its status, where the replica that works carries it
/// out. Says what was asked.
///
/// # Errors
/// The API server refused or did not answer.
pub async fn wish(
    client: &kube::Client,
    mut rollout: Rollout,
    wanted: impl Fn(&Rollout) -> Option<Request>,
) -> Result<Option<RequestVerb>, ApplyError> {
    let namespace = rollout.metadata.namespace.clone().unwrap_or_default();
    let name = rollout.metadata.name.clone().unwrap_or_default();
    let at = format!("/apis/sluice.dev/v1beta1/namespaces/{namespace}/rollouts/{name}");
    for left in (0..TRIES).rev() {
        let Some(request) = wanted(&rollout) else { return Ok(None) };
        let verb = request.verb;
        rollout.status.get_or_insert_default().request = Some(request);
        let encoding = |source| ApplyError::Encoding { what: format!("PUT {at}"), source };
        let body = serde_json::to_value(&rollout).map_err(encoding)?;
        match Http::put(format!("{at}/status"), body).send(client).await {
            Ok(_) => {
                tracing::info!(namespace, name, ?verb, "the release is asked to stop");
                return Ok(Some(verb));
            }
            Err(error) if left > 0 && error.class() == Class::Conflict => {
                let newest = Http::get(at.clone()).send(client).await?;
                rollout = serde_json::from_value(newest).map_err(encoding)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
