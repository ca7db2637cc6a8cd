//! Letting go with a person's hands: the same plan as the controller's, carried out from here.
//!
//! Works with the controller dead. The Rollout is planned as if it were disabled, on objects that are
//! read now, until nothing is left to do.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, bail};
use serde_json::Value;

use super::client::patiently;
use crate::api::Rollout;
use crate::apply::{ApplyError, Class, Http, Operator, Seen, Target, run as carry_out};
use crate::clock::{Clock, SystemClock};
use crate::observe::{Kind, Unlisted, World};
use crate::rollout::{self, Action, Plan, Refusal};

/// Rounds of read, plan and write; each waits for what the one before asked for.
const ROUNDS: usize = 120;

/// Lets go; says what was done.
pub(crate) async fn run(
    client: &kube::Client,
    namespace: &str,
    rollout: &Rollout,
) -> anyhow::Result<String> {
    let name = rollout.metadata.name.clone().unwrap_or_default();
    let account = who_am_i(client).await?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    for _ in 0..ROUNDS {
        let world = read(client, namespace).await?;
        let Some(mut snapshot) = world.snapshot(namespace, &name, &account) else {
            return Ok(format!("{name}: the Rollout is gone, nothing of it is left"));
        };
        if let Some(Refusal::Read(why)) = &snapshot.refusal {
            bail!("{why}");
        }
        snapshot.rollout.spec.disabled = true;
        let plan = rollout::plan(&snapshot, clock.now());
        // An entry of ours that is the only one in `managedFields` stays whatever is asked.
        let is_last =
            |a: &Action| matches!(a, Action::Status | Action::Event(_) | Action::Disown { .. });
        let quiet = plan.actions.iter().all(is_last);
        let over = plan.status.release.is_none();
        let now = clock.now();
        let target = Target {
            rollout: &snapshot.rollout,
            account: &account,
            instance: "sluice let-go",
            now,
            gate: world.gate_at(namespace),
        };
        if !carried(client, &target, &plan).await? {
            continue;
        }
        if over && quiet {
            return Ok(format!(
                "{name}: the workload is let go. A controller that still runs gates it again when the \
                 Rollout's spec changes; disable or delete the Rollout to keep it out"
            ));
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    bail!("{name}: it is still not let go: see kubectl describe rollout {name}")
}

/// Carries a plan out. False when somebody else wrote in between, as a controller that still runs does:
/// what is left to do is seen in the next look.
pub(crate) async fn carried(
    client: &kube::Client,
    target: &Target<'_>,
    plan: &Plan,
) -> Result<bool, ApplyError> {
    let done = patiently(async || {
        carry_out(client, &Operator::acting(), target, plan, |_: Seen| {}).await
    });
    match done.await {
        Ok(()) => Ok(true),
        Err(error) if error.class() == Class::Conflict => Ok(false),
        Err(error) => Err(error),
    }
}

/// How the user goes on with a workload that was let go in the middle of a release: it rests, and one
/// field is not his. `rollout` is as it was before.
pub(crate) async fn rests(
    client: &kube::Client,
    namespace: &str,
    rollout: &Rollout,
) -> Option<String> {
    let name = &rollout.spec.workload_ref.name;
    let release = rollout.status.as_ref()?.release.as_ref()?;
    let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments/{name}");
    let workload = Http::get(path).send(client).await.ok()?;
    if workload.pointer("/spec/paused") != Some(&Value::Bool(true)) {
        return None;
    }
    let surge = serde_json::to_value(release.originals.max_surge.as_ref()?).ok()?;
    let is = workload.pointer("/spec/strategy/rollingUpdate/maxSurge").cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let field = if is == surge {
        String::new()
    } else {
        format!("; set maxSurge {} again then, which is {} meanwhile", text(&surge), text(&is))
    };
    Some(format!(
        "Deployment {namespace}/{name} rests at its step, paused: kubectl rollout resume \
         deployment/{name} -n {namespace} goes on{field}"
    ))
}

/// Who the API server says we are.
pub(crate) async fn who_am_i(client: &kube::Client) -> anyhow::Result<String> {
    let body = serde_json::json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "SelfSubjectReview",
    });
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let answer = Http::post(path, body).send(client).await?;
    let name = answer.pointer("/status/userInfo/username").and_then(Value::as_str);
    name.map(str::to_owned).ok_or_else(|| anyhow!("the API server does not say who we are"))
}

/// Everything of one namespace, read now. What may not be listed is noted: it is not nothing.
pub(crate) async fn read(client: &kube::Client, namespace: &str) -> anyhow::Result<World> {
    let mut world = World::new();
    // The Rollout last: what it says of the others is then never older than they are.
    for kind in Kind::ALL.into_iter().rev() {
        let (group, version, name, plural) = kind.names();
        let root = if group.is_empty() {
            format!("/api/{version}")
        } else {
            format!("/apis/{group}/{version}")
        };
        let path = if kind.cluster_scoped() {
            format!("{root}/{plural}")
        } else {
            format!("{root}/namespaces/{namespace}/{plural}")
        };
        let list = match patiently(|| Http::get(path.clone()).send(client)).await {
            Ok(list) => list,
            Err(e) if matches!(e.code(), Some(403 | 404)) => {
                let forbidden = e.code() == Some(403);
                if let Some(why) = unlisted(kind, namespace, forbidden) {
                    world.cannot_list(kind, why);
                }
                continue;
            }
            Err(e) => return Err(e.into()),
        };
        let items = list.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
        for mut item in items {
            if let Some(object) = item.as_object_mut() {
                object.entry("kind").or_insert_with(|| name.into());
                let full = if group.is_empty() {
                    version.to_owned()
                } else {
                    format!("{group}/{version}")
                };
                object.entry("apiVersion").or_insert_with(|| full.into());
            }
            let _keys = world.apply(kind, &item);
        }
    }
    Ok(world)
}

/// What it means for a plan that a person cannot list a kind. Who has no right to routes may still let go of
/// a workload that has none.
fn unlisted(kind: Kind, namespace: &str, forbidden: bool) -> Option<Unlisted> {
    let (group, _, _, plural) = kind.names();
    let of = if group.is_empty() { String::new() } else { format!(".{group}") };
    let routes = matches!(kind, Kind::HttpRoute | Kind::GrpcRoute);
    let needed = match kind {
        Kind::Rollout | Kind::Gate | Kind::AnalysisRun => true,
        Kind::Deployment | Kind::ReplicaSet | Kind::Pod | Kind::Service => true,
        _ => routes,
    };
    let changed = if routes { ", and the release has changed some" } else { "" };
    needed.then(|| match forbidden {
        true => {
            let why = format!(
                "this account may not list {plural}{of} in namespace {namespace}{changed}: nothing \
                 more is written; ask for get, list and update on them (the ClusterRole \
                 sluice-admin has what is needed)"
            );
            if routes { Unlisted::Absent(why) } else { Unlisted::Holds(why) }
        }
        false => Unlisted::Absent(format!(
            "{plural}{of} are not served{changed}: nothing more is written; install their definition \
             again"
        )),
    })
}
