//! Whether the gate holds: asked of the API server by a dry run.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::error::ApplyError;
use super::request::{Http, path};
use crate::rollout::Proof;

/// A surge that nobody asks for by accident.
const FOREIGN_SURGE: &str = "77%";

/// Changes the template, resumes and turns the knob in a dry run, and looks at what comes back. A
/// resting Deployment is paused anyway, so the template alone would prove nothing. Where the try is refused,
/// by a foreign webhook with whichever code, nothing is known.
///
/// # Errors
/// No answer.
pub async fn prove(
    client: &kube::Client,
    namespace: &str,
    workload: &str,
    held: bool,
    now: Timestamp,
) -> Result<Proof, ApplyError> {
    let at = path("apps/v1", namespace, "deployments", workload);
    let body = json!({"spec": {
        "paused": false,
        "strategy": {"rollingUpdate": {"maxSurge": FOREIGN_SURGE}},
        "template": {"metadata": {"annotations": {"sluice.dev/proof": now.to_string()}}},
    }});
    let object = match Http::merge(at, body).dry_run().send(client).await {
        Ok(object) => object,
        Err(ApplyError::Refused { reason, message, .. }) => {
            return Ok(Proof::Refused { reason: format!("{reason}: {message}") });
        }
        Err(e) => return Err(e),
    };
    let paused = object.pointer("/spec/paused") == Some(&Value::Bool(true));
    let surge = object.pointer("/spec/strategy/rollingUpdate/maxSurge");
    let kept = surge.and_then(Value::as_str) != Some(FOREIGN_SURGE);
    let reason = if !paused {
        "a dry run of a changed template came back unpaused"
    } else if held && !kept {
        "a dry run of another maxSurge in mid-release came back changed"
    } else {
        return Ok(Proof::Held { at: now });
    };
    Ok(Proof::NotHeld { reason: reason.to_owned(), tried: Some((now, now)) })
}
