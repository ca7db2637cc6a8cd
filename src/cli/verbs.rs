//! What a person asks of one release: a spec or status write that any client can make.

use anyhow::{Context, anyhow, bail};
use serde_json::{Value, json};

use super::args::Named;
use super::client::find;
use crate::api::Rollout;
use crate::api::status::{ReleaseStatus, RequestVerb, RolloutStatus, Stage, StepState, WindowHold};
use crate::apply::Http;

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
    let held = holds_a_template(&status) && verb == RequestVerb::Retry;
    if status.release.is_none() && !held {
        if verb == RequestVerb::Retry && status.rejected.is_some() {
            bail!(
                "{} of {} is back at its stable version: there is nothing to retry; apply the \
                 template that failed, and retry lets it in, or a mended one, which needs no retry",
                rollout.spec.workload_ref.kind,
                rollout.spec.workload_ref.name
            );
        }
        bail!(
            "Rollout {} has no release under way: there is nothing to {}",
            named.name,
            name(verb)
        );
    }
    if let Some(release) = status.release.as_ref().filter(|_| verb == RequestVerb::Approve)
        && release.held.is_none()
        && release.window != Some(WindowHold::Closed)
        && release.hook.is_none()
        && release.state != StepState::StepPaused
    {
        let waits = status.waiting_for.as_deref().unwrap_or("its pods");
        bail!(
            "step {} of {} waits for no approval: {waits}; kubectl sluice skip leaves its rest out",
            release.step + 1,
            named.name
        );
    }
    let id = status.release.as_ref().map(|r| &r.id);
    let body = json!({"status": {"request": {"verb": verb, "release": id}}});
    patch_status(&client, &namespace, &named.name, body).await?;
    Ok(asked(named, &namespace, &words(verb, status.release.as_ref())))
}

/// Whether a template that failed was applied again and waits for `retry`.
pub(super) fn holds_a_template(status: &RolloutStatus) -> bool {
    status.conditions.iter().any(|c| c.type_ == "TemplateHeld" && c.status == "True")
}

/// What was asked for, and how to see what comes of it.
fn asked(named: &Named, namespace: &str, what: &str) -> String {
    let name = &named.name;
    format!("{name}: {what}; follow it with kubectl sluice status {name} -n {namespace} --watch")
}

fn name(verb: RequestVerb) -> &'static str {
    match verb {
        RequestVerb::Approve => "approve",
        RequestVerb::PromoteFull => "promote",
        RequestVerb::Abort => "abort",
        RequestVerb::Retry => "retry",
        RequestVerb::Skip => "skip",
        RequestVerb::Restart => "restart",
        RequestVerb::Pause => "pause",
        RequestVerb::Isolate => "isolate",
    }
}

fn words(verb: RequestVerb, release: Option<&ReleaseStatus>) -> String {
    let step = release.map_or(1, |r| r.step + 1);
    match (verb, release.and_then(|r| r.held.as_ref())) {
        (RequestVerb::Approve, Some(hold)) => format!("goes on although {hold}"),
        (RequestVerb::Approve, None) => format!("step {step} is approved"),
        (RequestVerb::PromoteFull, _) => "all remaining steps are left out".into(),
        (RequestVerb::Abort, _) => "goes back to the stable version".into(),
        (RequestVerb::Retry, _) if release.is_none() => "the rejected template is let in".into(),
        (RequestVerb::Retry, _) => format!("step {step} is tried again"),
        (RequestVerb::Skip, _) => format!("the rest of step {step} is left out"),
        (RequestVerb::Restart, _) => "begins again at step 1".into(),
        (RequestVerb::Pause, _) => "is paused".into(),
        (RequestVerb::Isolate, _) => "loses its traffic and keeps its pods".into(),
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
            Err(error) => return Err(error.into()),
        }
    }
    Err(last.map_or_else(|| anyhow!("no try was made"), anyhow::Error::from))
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
    if release.stage != Stage::Stepping {
        bail!("Rollout {} goes through no steps now: see kubectl sluice status", named.name);
    }
    if step == release.step + 2 {
        // Kruise's `nextStepIndex` says that already: no wish could be told from it.
        return ask(named, RequestVerb::Skip).await;
    }
    let body = json!({"status": {"canaryStatus": {"nextStepIndex": step}}});
    patch_status(&client, &namespace, &named.name, body).await?;
    let what = format!("jumps from step {} to step {step}", release.step + 1);
    Ok(asked(named, &namespace, &what))
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
    let name = &named.name;
    if paused {
        return Ok(format!("{name}: paused until kubectl sluice resume {name} -n {namespace}"));
    }
    let was = rollout.spec.strategy.paused;
    let release = rollout.status.and_then(|s| s.release);
    let id = release.as_ref().map(|r| r.id.clone());
    match release.and_then(|r| r.held) {
        Some(hold) if is_pause(&hold) => {
            let request = json!({"verb": RequestVerb::Approve, "release": id});
            let body = json!({"status": {"request": request}});
            patch_status(&client, &namespace, name, body).await?;
        }
        Some(hold) => bail!(
            "{name} is not paused, it is held: {hold}; kubectl sluice approve {name} -n {namespace} goes on"
        ),
        None if !was => return Ok(format!("{name}: was not paused")),
        None => {}
    }
    Ok(asked(named, &namespace, "goes on"))
}

/// Whether somebody, or an alert, has paused the release: no step is approved by lifting that.
fn is_pause(hold: &str) -> bool {
    hold.starts_with(crate::rollout::PAUSED_BY_HAND) || hold.starts_with(crate::rollout::PAUSED_BY)
}

/// Writes the template of an older native revision. A release that is set aside has its stable template there
/// already, and would let the new one in again: it is ended.
///
/// # Errors
/// There is no such revision, or the API server refuses.
pub async fn undo(named: &Named, to: Option<i64>) -> anyhow::Result<String> {
    let (client, namespace) = named.cluster.connect().await?;
    let rollout = find(&client, &namespace, &named.name).await?;
    let release = rollout.status.as_ref().and_then(|s| s.release.as_ref());
    if to.is_none() && release.is_some_and(|r| r.stage == Stage::Suspended) {
        return ask(named, RequestVerb::Abort).await;
    }
    let free = is_free(&rollout);
    let workload = &rollout.spec.workload_ref.name;
    let base = format!("/apis/apps/v1/namespaces/{namespace}");
    let at = format!("{base}/deployments/{workload}");
    let deployment = Http::get(at.clone()).send(&client).await?;
    let list = Http::get(format!("{base}/replicasets")).send(&client).await?;
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
    let goes_back = stable.is_some() && to.is_none();
    let found = match (to, stable) {
        (Some(to), _) => owned.iter().find(|(revision, _)| *revision == to),
        (None, Some(stable)) => owned.iter().find(|(_, rs)| hash(rs).as_ref() == Some(&stable)),
        (None, None) => owned.iter().find(|(_, rs)| differs(rs)),
    };
    let Some((number, target)) = found else {
        let known: Vec<String> = owned.iter().map(|(r, _)| r.to_string()).collect();
        bail!("no such revision of Deployment {workload}: there are {}", known.join(", "));
    };
    if !differs(target) {
        bail!("Deployment {workload} has the template of revision {number} already");
    }
    let raw = target.pointer("/spec/template").cloned().unwrap_or_default();
    let template = crate::workload::view::normal_template(&raw);
    let ops = json!([{"op": "replace", "path": "/spec/template", "value": template}]);
    send(&client, || Http::json_patch(at.clone(), ops.clone())).await?;
    let then = if goes_back {
        "the release goes back to it"
    } else if free && deployment.pointer("/spec/paused") == Some(&Value::Bool(true)) {
        "nothing holds it, and kubectl rollout resume lets it in"
    } else {
        "it is released like any other"
    };
    let what = format!("Deployment {workload} has the template of revision {number} again: {then}");
    Ok(asked(named, &namespace, &what))
}

/// Whether the workload is nobody's: its Rollout is disabled, or it was let go.
fn is_free(rollout: &Rollout) -> bool {
    let mut conditions = rollout.status.iter().flat_map(|status| &status.conditions);
    rollout.spec.disabled || conditions.any(|c| c.type_ == "Released" && c.status == "True")
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
    let mut said = release(&client, &namespace, &rollout).await?;
    if let Some(rests) = super::let_go::rests(&client, &namespace, &rollout).await {
        said = format!("{said}\n{rests}");
    }
    Ok(said)
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
