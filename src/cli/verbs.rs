//! What a person asks of one release: a spec or status write that any client can make.

use anyhow::{Context, anyhow, bail};
use serde_json::{Value, json};

use super::args::Named;
use super::client::find;
use crate::api::Rollout;
use crate::api::status::RequestVerb;
use crate::apply::{ApplyError, Http};

/// Tries of a write that races with the controller's.
const TRIES: usize = 10;

fn path(namespace: &str, plural: &str, name: &str) -> String {
    format!("/apis/sluice.dev/v1beta1/namespaces/{namespace}/{plural}/{name}")
}

/// Asks for something by a status write. The API server records who asked.
///
/// # Errors
/// There is no release to ask it of, or the API server refuses.
pub async fn ask(named: &Named, verb: RequestVerb) -> anyhow::Result<String> {
    let (client, namespace) = named.cluster.connect().await?;
    let rollout = find(&client, &namespace, &named.name).await?;
    let status = rollout.status.clone().unwrap_or_default();
    let held = status.rejected.is_some() && verb == RequestVerb::Retry;
    if status.release.is_none() && !held {
        bail!("Rollout {} has no release under way: there is nothing to {verb:?}", named.name);
    }
    let release = status.release.map(|r| r.id);
    let body = json!({"status": {"request": {"verb": verb, "release": release}}});
    patch_status(&client, &namespace, &named.name, body).await?;
    Ok(format!("{}: {} asked for", named.name, words(verb)))
}

fn words(verb: RequestVerb) -> &'static str {
    match verb {
        RequestVerb::Approve => "approval",
        RequestVerb::PromoteFull => "full promotion",
        RequestVerb::Abort => "the way back",
        RequestVerb::Retry => "another try",
        RequestVerb::Skip => "the next step",
        RequestVerb::Restart => "the first step again",
    }
}

async fn patch_status(
    client: &kube::Client,
    namespace: &str,
    name: &str,
    body: Value,
) -> anyhow::Result<()> {
    let at = format!("{}/status", path(namespace, "rollouts", name));
    send(client, || Http::merge(at.clone(), body.clone())).await.map(|_| ())
}

/// Sends a write until no race is lost any more.
async fn send(client: &kube::Client, request: impl Fn() -> Http) -> anyhow::Result<Value> {
    let mut last = None;
    for _ in 0..TRIES {
        match request().send(client).await {
            Ok(object) => return Ok(object),
            Err(error) if error.code() == Some(409) => last = Some(error),
            Err(error) => return Err(explained(error)),
        }
    }
    Err(last.map_or_else(|| anyhow!("no try was made"), explained))
}

fn explained(error: ApplyError) -> anyhow::Error {
    let advice = error.advice();
    anyhow::Error::new(error).context(advice)
}

/// Goes to a step.
///
/// # Errors
/// There is no such step, no release, or the API server refuses.
pub async fn jump(named: &Named, step: i32) -> anyhow::Result<String> {
    let (client, namespace) = named.cluster.connect().await?;
    let rollout = find(&client, &namespace, &named.name).await?;
    let status = rollout.status.clone().unwrap_or_default();
    let Some(release) = status.release else {
        bail!("Rollout {} has no release under way", named.name);
    };
    let steps = rollout.spec.strategy.canary.as_ref().map_or(0, |c| c.steps.len());
    let of = i32::try_from(steps).unwrap_or(i32::MAX);
    if !(1..=of).contains(&step) {
        bail!("there is no step {step}: they go from 1 to {of}");
    }
    if step == release.step + 2 {
        bail!("step {step} is the next one: kubectl sluice skip {} goes there", named.name);
    }
    let body = json!({"status": {"canaryStatus": {"nextStepIndex": step}}});
    patch_status(&client, &namespace, &named.name, body).await?;
    Ok(format!("{}: from step {} to step {step}", named.name, release.step + 1))
}

/// Freezes or goes on.
///
/// # Errors
/// The API server refuses.
pub async fn pause(named: &Named, paused: bool) -> anyhow::Result<String> {
    let (client, namespace) = named.cluster.connect().await?;
    let rollout = find(&client, &namespace, &named.name).await?;
    let body = json!({"spec": {"strategy": {"paused": paused}}});
    let at = path(&namespace, "rollouts", &named.name);
    send(&client, || Http::merge(at.clone(), body.clone())).await?;
    let held = rollout.status.and_then(|s| s.release).and_then(|r| r.held);
    if !paused && held.is_some_and(|h| h.starts_with(crate::rollout::PAUSED_BY_HAND)) {
        let body = json!({"status": {"request": {"verb": RequestVerb::Approve}}});
        patch_status(&client, &namespace, &named.name, body).await?;
    }
    let word = if paused { "paused: nothing goes on until resume" } else { "goes on" };
    Ok(format!("{}: {word}", named.name))
}

/// Writes the template of an older native revision.
///
/// # Errors
/// There is no such revision, or the API server refuses.
pub async fn undo(named: &Named, to: Option<i64>) -> anyhow::Result<String> {
    let (client, namespace) = named.cluster.connect().await?;
    let rollout = find(&client, &namespace, &named.name).await?;
    let workload = &rollout.spec.workload_ref.name;
    let base = format!("/apis/apps/v1/namespaces/{namespace}");
    let at = format!("{base}/deployments/{workload}");
    let deployment = Http::get(at.clone()).send(&client).await.map_err(explained)?;
    let list = Http::get(format!("{base}/replicasets")).send(&client).await.map_err(explained)?;
    let uid = deployment.pointer("/metadata/uid").cloned();
    let mut owned: Vec<(i64, &Value)> = list
        .get("items")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|rs| rs.pointer("/metadata/ownerReferences/0/uid").cloned() == uid)
        .filter_map(|rs| Some((revision(rs)?, rs)))
        .collect();
    owned.sort_by_key(|(revision, _)| -revision);
    let template = deployment.pointer("/spec/template").cloned().unwrap_or_default();
    let here = crate::workload::view::template_hash(&template);
    let stable = rollout.status.and_then(|s| s.release).map(|r| r.stable);
    let hash = |rs: &Value| {
        rs.pointer("/metadata/labels/pod-template-hash").and_then(Value::as_str).map(str::to_owned)
    };
    let differs = |rs: &Value| {
        let template = rs.pointer("/spec/template").cloned().unwrap_or_default();
        crate::workload::view::template_hash(&template) != here
    };
    let found = match (to, stable) {
        (Some(to), _) => owned.iter().find(|(revision, _)| *revision == to),
        (None, Some(stable)) => owned.iter().find(|(_, rs)| hash(rs).as_ref() == Some(&stable)),
        (None, None) => owned.iter().find(|(_, rs)| differs(rs)),
    };
    let Some((number, target)) = found else {
        let known: Vec<String> = owned.iter().map(|(r, _)| r.to_string()).collect();
        bail!("no such revision of Deployment {workload}: there are {}", known.join(", "));
    };
    let raw = target.pointer("/spec/template").cloned().unwrap_or_default();
    let template = crate::workload::view::normal_template(&raw);
    let ops = json!([{"op": "replace", "path": "/spec/template", "value": template}]);
    send(&client, || Http::json_patch(at.clone(), ops.clone())).await?;
    Ok(format!("Deployment {workload}: the template of revision {number} is back"))
}

fn revision(rs: &Value) -> Option<i64> {
    let all = rs.pointer("/metadata/annotations")?;
    all.get("deployment.kubernetes.io/revision")?.as_str()?.parse().ok()
}

/// Lets go of a workload without a controller: the entry first, so that everybody is free at once, then
/// traffic and fields as the release noted them, then the finalizer.
///
/// # Errors
/// The API server refuses.
pub async fn let_go(named: &Named) -> anyhow::Result<String> {
    let (client, namespace) = named.cluster.connect().await?;
    let rollout = find(&client, &namespace, &named.name).await?;
    release(&client, &namespace, &rollout).await
}

/// As [`let_go`], for a Rollout that was read.
///
/// # Errors
/// The API server refuses.
pub async fn release(
    client: &kube::Client,
    namespace: &str,
    rollout: &Rollout,
) -> anyhow::Result<String> {
    let name = rollout.metadata.name.clone().unwrap_or_default();
    let lines = super::let_go::run(client, namespace, rollout)
        .await
        .with_context(|| format!("letting go of Rollout {namespace}/{name}"))?;
    Ok(lines)
}
