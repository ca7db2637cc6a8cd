//! Every recorded run of the real controllers (`tests/traces`), played on ours: the same sizes in
//! the same order, and the same rest after each step.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::object::{self, count, int, items, text};
use super::{Controllers, replicaset};
use crate::clock::SimClock;
use crate::sim::apiserver::{ApiServer, Call, ResourceKey, Verb};

const NAMESPACE: &str = "default";

/// Pods run, and become ready when the play says so.
struct Stage {
    clock: Arc<SimClock>,
    server: ApiServer,
    controllers: Controllers,
    broken: Vec<String>,
    seen: u64,
    sizes: BTreeMap<String, i64>,
}

impl Stage {
    fn open(trace: &Value) -> Self {
        let start: Timestamp = "2026-02-01T00:00:00Z".parse().unwrap();
        let clock = Arc::new(SimClock::at(start));
        let server = ApiServer::new(clock.clone());
        let controllers = Controllers::new(server.clone());
        let broken = items(trace, &["broken"]).iter().map(|tag| tag.as_str().unwrap().to_owned());
        let mut web = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": "web", "namespace": NAMESPACE },
            "spec": {
                "replicas": 1,
                "selector": { "matchLabels": { "app": "web" } },
                "strategy": {
                    "type": "RollingUpdate",
                    "rollingUpdate": { "maxSurge": "25%", "maxUnavailable": "25%" },
                },
                "template": {
                    "metadata": { "labels": { "app": "web" } },
                    "spec": { "containers": [{ "name": "web", "image": "web:v1" }] },
                },
            },
        });
        json_patch::merge(&mut web["spec"], &trace["given"]);
        server.create("user", web).unwrap();
        let broken = broken.collect();
        let mut stage =
            Self { clock, server, controllers, broken, seen: 0, sizes: BTreeMap::new() };
        stage.settle();
        stage.recorded();
        stage
    }

    fn play(&mut self, write: &Value) {
        let spec = |spec: &Value| json!({ "spec": spec });
        let (resource, name, patch) = if let Some(own) = write.get("spec") {
            (ResourceKey::DEPLOYMENTS, "web".to_owned(), spec(own))
        } else if let Some(own) = write.get("scale") {
            (ResourceKey::REPLICASETS, self.set(&own[0]), spec(&json!({ "replicas": own[1] })))
        } else {
            let own = write.get("set").expect("no other word is in a trace");
            (ResourceKey::REPLICASETS, self.set(&own[0]), spec(&own[1]))
        };
        self.server.patch_merge("user", &resource, NAMESPACE, &name, patch).unwrap();
        self.clock.advance(SignedDuration::from_secs(1));
    }

    fn set(&self, wanted: &Value) -> String {
        let sets = self.server.list(&ResourceKey::REPLICASETS, Some(NAMESPACE));
        let found = sets.iter().find(|set| tag(&set["spec"]["template"]) == *wanted);
        object::name(found.unwrap()).to_owned()
    }

    /// Pods become ready one by one, in the order of their tags, until nothing moves.
    fn settle(&mut self) {
        loop {
            while self.controllers.run_once() | self.run_pods() {}
            let pods = self.server.list(&ResourceKey::PODS, Some(NAMESPACE));
            let mut waiting: Vec<_> = pods
                .iter()
                .filter(|pod| !replicaset::is_ready(pod) && !self.broken.contains(&tag(pod)))
                .collect();
            waiting.sort_by_key(|pod| tag(pod));
            let Some(first) = waiting.first() else { return };
            self.write_status(first, "True");
        }
    }

    fn run_pods(&self) -> bool {
        let mut has_written = false;
        for pod in self.server.list(&ResourceKey::PODS, Some(NAMESPACE)) {
            if object::is_deleting(&pod) {
                let call = Call::new("node", Verb::Delete, &ResourceKey::PODS)
                    .namespace(NAMESPACE)
                    .name(object::name(&pod))
                    .body(json!({ "gracePeriodSeconds": 0 }));
                self.server.call(call).unwrap();
                has_written = true;
            } else if text(&pod, &["status", "phase"]) != "Running" {
                self.write_status(&pod, "False");
                has_written = true;
            }
        }
        has_written
    }

    fn write_status(&self, pod: &Value, ready: &str) {
        let patch = json!({ "status": {
            "phase": "Running",
            "conditions": [{
                "type": "Ready",
                "status": ready,
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }],
        } });
        let name = object::name(pod);
        self.server.patch_status("node", &ResourceKey::PODS, NAMESPACE, name, patch).unwrap();
    }

    /// Each change of a ReplicaSet's size since the last call.
    fn recorded(&mut self) -> Vec<Value> {
        let mut found = Vec::new();
        for change in self.server.changes_since(self.seen) {
            self.seen = change.rv;
            if change.resource == ResourceKey::REPLICASETS {
                let tag = tag(&change.object["spec"]["template"]);
                let size = count(&change.object, &["spec", "replicas"]);
                if self.sizes.insert(tag.clone(), size) != Some(size) {
                    found.push(json!([tag, size]));
                }
            }
        }
        found
    }

    fn rest(&self) -> Value {
        let web = self.server.get(&ResourceKey::DEPLOYMENTS, NAMESPACE, "web").unwrap();
        let sets = self.server.list(&ResourceKey::REPLICASETS, Some(NAMESPACE));
        let mut sizes = json!({});
        let mut available = json!({});
        for set in &sets {
            let tag = tag(&set["spec"]["template"]);
            if let Some(size) = int(set, &["spec", "replicas"]).filter(|size| *size > 0) {
                sizes[&tag] = size.into();
            }
            available[&tag] = count(set, &["status", "availableReplicas"]).into();
        }
        let progressing = object::condition(&web, "Progressing");
        json!({
            "sizes": sizes,
            "available": available,
            "unavailable": count(&web, &["status", "unavailableReplicas"]),
            "updated": count(&web, &["status", "updatedReplicas"]),
            "progressing": progressing.map(|found| found["reason"].clone()),
        })
    }
}

/// The tag of a template's or a pod's only image.
fn tag(template: &Value) -> String {
    let image = text(&template["spec"]["containers"][0], &["image"]);
    image.rsplit(':').next().unwrap().to_owned()
}

#[test]
fn every_trace_of_the_real_controllers_comes_out_the_same() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/traces");
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "json"));
    paths.sort();
    assert!(paths.len() >= 20, "too few traces in {folder}");
    let mut different = Vec::new();
    for path in paths {
        let trace: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let mut stage = Stage::open(&trace);
        for (number, step) in items(&trace, &["steps"]).iter().enumerate() {
            stage.play(&step["write"]);
            stage.settle();
            let ours = json!({
                "write": step["write"],
                "sizes": stage.recorded(),
                "rest": stage.rest(),
            });
            if ours != *step {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                different.push(format!("{name} step {number}\nreal {step}\nours {ours}"));
            }
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n\n"));
}
