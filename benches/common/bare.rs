//! What the native controller alone needs for the moves of a release: a script turns the knob and knows
//! nothing but the Deployment's status. No gate, no Rollout, nothing is written down.

use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::BoxStream;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};
use sluice::workload::{NEVER_LATE_SECONDS, NEVER_READY_SECONDS};

use super::harness::{ControlPlane, Who};
use super::{STEPS, deployment, dynamic, furnish, spread};

const NAMESPACE: &str = "bench-bare";

/// A Deployment that no Rollout names.
pub struct Script {
    client: Client,
}

impl Script {
    /// Makes it and waits for its pods.
    pub async fn open(plane: &ControlPlane) -> Self {
        let script = Self { client: plane.client(Who::Admin) };
        furnish(&script.client, NAMESPACE, vec![deployment()]).await;
        until(&mut script.watch(), |status| status["availableReplicas"] == 10).await;
        script
    }

    /// Prints what a release takes by one write a step and one that gives the fields back.
    pub async fn measure(&self, rounds: usize) {
        self.release(0).await;
        let mut spans = Vec::new();
        for round in 1..=rounds {
            tokio::time::sleep(Duration::from_secs(1)).await;
            spans.push(self.release(round).await);
        }
        println!("a bare script's {STEPS} moves, 10 pods: {}", spread::of(&mut spans));
    }

    fn api(&self) -> Api<DynamicObject> {
        dynamic(&self.client, NAMESPACE, "apps", "Deployment")
    }

    async fn release(&self, round: usize) -> Duration {
        let mut watch = self.watch();
        until(&mut watch, |status| status["availableReplicas"] == 10).await;
        let began = Instant::now();
        for step in 1..=STEPS {
            let new = 10 * step / STEPS;
            let mut spec = json!({"minReadySeconds": NEVER_READY_SECONDS,
                "progressDeadlineSeconds": NEVER_LATE_SECONDS,
                "strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": new}}});
            if step == 1 {
                let image = format!("web:bare-{round}");
                spec["template"] =
                    json!({"spec": {"containers": [{"name": "web", "image": image}]}});
            }
            self.write(spec).await;
            until(&mut watch, |s| s["updatedReplicas"] == new && s["readyReplicas"] == 10).await;
        }
        self.write(json!({"minReadySeconds": 0, "progressDeadlineSeconds": 600,
            "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}}))
            .await;
        until(&mut watch, |s| s["updatedReplicas"] == 10 && s["availableReplicas"] == 10).await;
        began.elapsed()
    }

    async fn write(&self, spec: Value) {
        let patch = Patch::Strategic(json!({"spec": spec}));
        self.api().patch("web", &PatchParams::default(), &patch).await.expect("a write");
    }

    fn watch(&self) -> Watch {
        let config = watcher::Config::default().fields("metadata.name=web");
        let watch = watcher(self.api(), config).default_backoff().touched_objects();
        watch.filter_map(async |object| object.ok()).boxed()
    }
}

type Watch = BoxStream<'static, DynamicObject>;

/// Follows the Deployment until the native controller has acted on it and `test` is true of its status.
async fn until(watch: &mut Watch, test: impl Fn(&Value) -> bool) {
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let next = tokio::time::timeout_at(end, watch.next()).await;
        let object = next.expect("not after a minute").expect("a watch");
        let status = &object.data["status"];
        let acted = status["observedGeneration"].as_i64() == object.metadata.generation;
        if acted && test(status) {
            return;
        }
    }
}
