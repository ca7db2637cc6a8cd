//! Letting go with a person's hands: the same plan as the controller's, carried out from here.
//!
//! Works with the controller dead. The Rollout is planned as if it were disabled, on objects that are
//! read now, until nothing is left to do.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, bail};
use serde_json::Value;

use crate::api::Rollout;
use crate::apply::{Http, Operator, Seen, Target, run as carry_out};
use crate::clock::{Clock, SystemClock};
use crate::observe::{Kind, World};
use crate::rollout::{self, Action};

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
        snapshot.rollout.spec.disabled = true;
        let plan = rollout::plan(&snapshot, clock.now());
        let quiet = plan.actions.iter().all(|a| matches!(a, Action::Status | Action::Event(_)));
        let over = plan.status.release.is_none();
        let now = clock.now();
        let target = Target {
            rollout: &snapshot.rollout,
            account: &account,
            instance: "sluice let-go",
            now,
        };
        carry_out(client, &Operator::acting(), &target, &plan, |_: Seen| {})
            .await
            .map_err(|e| anyhow!(e.advice()))?;
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

/// Who the API server says we are.
pub(crate) async fn who_am_i(client: &kube::Client) -> anyhow::Result<String> {
    let body = serde_json::json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "SelfSubjectReview",
    });
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let answer = Http::post(path, body).send(client).await.map_err(|e| anyhow!(e.advice()))?;
    let name = answer.pointer("/status/userInfo/username").and_then(Value::as_str);
    name.map(str::to_owned).ok_or_else(|| anyhow!("the API server does not say who we are"))
}

/// Everything of one namespace, read now.
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
        let list = match Http::get(path).send(client).await {
            Ok(list) => list,
            // Not served here, or not ours to read: the plan does without.
            Err(e) if matches!(e.code(), Some(403 | 404)) => continue,
            Err(e) => return Err(anyhow!(e.advice())),
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
