//! Whether the gate holds: asked of the API server by a dry run.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::error::{ApplyError, Class};
use super::request::{Http, path};
use crate::rollout::Proof;

/// A surge that nobody asks for by accident.
const FOREIGN_SURGE: &str = "77%";

/// Changes the template, resumes and turns the knob in a dry run, and looks at what comes back. A
/// resting Deployment is paused anyway, so the template alone would prove nothing. `None`: a foreign
/// webhook refused the try, so nothing is known.
///
/// # Errors
/// No answer, or a missing permission.
pub async fn prove(
    client: &kube::Client,
    namespace: &str,
    workload: &str,
    held: bool,
    now: Timestamp,
) -> Result<Option<Proof>, ApplyError> {
    let at = path("apps/v1", namespace, "deployments", workload);
    let body = json!({"spec": {
        "paused": false,
        "strategy": {"rollingUpdate": {"maxSurge": FOREIGN_SURGE}},
        "template": {"metadata": {"annotations": {"sluice.dev/proof": now.to_string()}}},
    }});
    let object = match Http::merge(at, body).dry_run().send(client).await {
        Ok(object) => object,
        Err(e) if e.class() == Class::Invalid => return Ok(None),
        Err(e) => return Err(e),
    };
    let paused = object.pointer("/spec/paused") == Some(&Value::Bool(true));
    let surge = object.pointer("/spec/strategy/rollingUpdate/maxSurge");
    let kept = surge.and_then(Value::as_str) != Some(FOREIGN_SURGE);
    if !paused {
        let reason = "a dry run of a changed template came back unpaused".to_owned();
        return Ok(Some(Proof::NotHeld { reason }));
    }
    if held && !kept {
        let reason = "a dry run of another maxSurge in mid-release came back changed".to_owned();
        return Ok(Some(Proof::NotHeld { reason }));
    }
    Ok(Some(Proof::Held { at: now }))
}
