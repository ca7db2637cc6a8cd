//! The recorded scenarios on the in-memory server and controllers. Where they differ from the record
//! of the real ones, they are wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sluice::clock::{Clock, SimClock};
use sluice::sim::apiserver::{ApiServer, Call, Change, ChangeKind, PatchType, ResourceKey, Verb};
use sluice::sim::controllers::Controllers;

use super::stage::manifest;
use super::trace::{Rest, Step, Trace, Write, sized};

const NAMESPACE: &str = "default";

struct Memory {
    server: ApiServer,
    controllers: Controllers,
    clock: Arc<SimClock>,
    seen: u64,
    sizes: BTreeMap<String, i32>,
    ready: BTreeSet<String>,
}

impl Memory {
    fn new() -> Self {
        let start: Timestamp = "2026-06-01T12:00:00Z".parse().expect("a time");
        let clock = Arc::new(SimClock::at(start));
        let server = ApiServer::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let controllers = Controllers::new(server.clone());
        let (sizes, ready) = (BTreeMap::new(), BTreeSet::new());
        Self { server, controllers, clock, seen: 0, sizes, ready }
    }

    fn write(&self, write: &Write) {
        let (resource, name, body, scale) = match write {
            Write::Spec(spec) => {
                (ResourceKey::DEPLOYMENTS, "web".to_owned(), json!({"spec": spec}), false)
            }
            Write::Scale(tag, replicas) => {
                let body = json!({"spec": {"replicas": replicas}});
                (ResourceKey::REPLICASETS, name(&self.set(tag)), body, true)
            }
            Write::Sized(tag, size, desired) => {
                let body = sized(*size, *desired);
                (ResourceKey::REPLICASETS, name(&self.set(tag)), body, false)
            }
            Write::Set(tag, spec) => {
                (ResourceKey::REPLICASETS, name(&self.set(tag)), json!({"spec": spec}), false)
            }
            Write::Unready(tag) => {
                let pods = self.server.list(&ResourceKey::PODS, Some(NAMESPACE));
                let pod = pods.iter().find(|pod| tag_of(&pod["spec"]) == *tag && is_ready(pod));
                self.run(pod.expect("a ready pod"), false);
                return;
            }
        };
        let verb = Verb::Patch(PatchType::Merge);
        let call = Call::new("sluice", verb, &resource).namespace(NAMESPACE).name(&name).body(body);
        let call = if scale { call.subresource("scale") } else { call };
        self.server.call(call).unwrap_or_else(|error| panic!("{write:?}: {error:?}"));
    }

    fn set(&self, tag: &str) -> Arc<Value> {
        let all = self.server.list(&ResourceKey::REPLICASETS, Some(NAMESPACE));
        let found = all.into_iter().find(|set| tag_of(&set["spec"]["template"]["spec"]) == tag);
        found.unwrap_or_else(|| panic!("no ReplicaSet with the image web:{tag}"))
    }

    fn run(&self, pod: &Value, ready: bool) {
        let word = if ready { "True" } else { "False" };
        let since = "2026-01-01T00:00:00Z";
        let status = json!({"status": {"phase": "Running", "conditions":
            [{"type": "Ready", "status": word, "lastTransitionTime": since}]}});
        self.server
            .patch_status("kubelet", &ResourceKey::PODS, NAMESPACE, &name(pod), status)
            .expect("the status is taken");
    }

    /// As [`super::stage::Stage::settle_but`].
    fn settle(&mut self, broken: &[String]) {
        loop {
            self.rest_a_while();
            let pods = self.server.list(&ResourceKey::PODS, Some(NAMESPACE));
            let mut waiting: Vec<&Arc<Value>> = pods
                .iter()
                .filter(|pod| !is_ready(pod) && !broken.contains(&tag_of(&pod["spec"])))
                .collect();
            if waiting.is_empty() {
                return;
            }
            waiting.sort_by_key(|pod| tag_of(&pod["spec"]));
            let web = self.web();
            let still = web["spec"]["paused"] == json!(true)
                || web["spec"]["minReadySeconds"].as_i64().is_some_and(|wait| wait > 1_000_000)
                || pods.len() == waiting.len();
            waiting.truncate(if still { usize::MAX } else { 1 });
            for pod in waiting {
                self.run(pod, true);
            }
        }
    }

    fn rest_a_while(&mut self) {
        for _ in 0..1_000 {
            assert!(self.controllers.settle(), "the controllers fight");
            let has_written = self.begin_and_end();
            // A refused write is tried again after some milliseconds; nothing else here is due soon.
            let due = self
                .controllers
                .next_wake()
                .is_some_and(|wake| wake <= self.server.now() + SignedDuration::from_secs(1));
            if !has_written && !due {
                return;
            }
            self.clock.advance(SignedDuration::from_millis(1));
        }
        panic!("the controllers do not come to rest");
    }

    fn begin_and_end(&self) -> bool {
        let mut has_written = false;
        for pod in self.server.list(&ResourceKey::PODS, Some(NAMESPACE)) {
            if pod["metadata"].get("deletionTimestamp").is_some() {
                let call = Call::new("kubelet", Verb::Delete, &ResourceKey::PODS)
                    .namespace(NAMESPACE)
                    .name(&name(&pod))
                    .body(json!({"gracePeriodSeconds": 0}));
                has_written |= self.server.call(call).is_ok();
            } else if pod["status"]["phase"] != json!("Running") {
                self.run(&pod, false);
                has_written = true;
            }
        }
        has_written
    }

    fn web(&self) -> Arc<Value> {
        self.server.get(&ResourceKey::DEPLOYMENTS, NAMESPACE, "web").expect("web is there")
    }

    /// Changes of sizes and the fewest ready pods since the last call.
    fn observe(&mut self) -> (Vec<(String, i32)>, usize) {
        let mut least = self.ready.len();
        let mut changes = Vec::new();
        for Change { rv, kind, resource, object, .. } in self.server.changes_since(self.seen) {
            self.seen = rv;
            if resource == ResourceKey::REPLICASETS && kind != ChangeKind::Deleted {
                let tag = tag_of(&object["spec"]["template"]["spec"]);
                let size = number(&object["spec"]["replicas"]);
                if self.sizes.insert(tag.clone(), size) != Some(size) {
                    changes.push((tag, size));
                }
            } else if resource == ResourceKey::PODS {
                let gone = kind == ChangeKind::Deleted
                    || object["metadata"].get("deletionTimestamp").is_some();
                if is_ready(&object) && !gone {
                    self.ready.insert(name(&object));
                } else {
                    self.ready.remove(&name(&object));
                }
                least = least.min(self.ready.len());
            }
        }
        (changes, least)
    }

    fn rest(&self) -> Rest {
        let all = self.server.list(&ResourceKey::REPLICASETS, Some(NAMESPACE));
        let of = |at: fn(&Value) -> &Value| -> BTreeMap<String, i32> {
            let pairs =
                all.iter().map(|set| (tag_of(&set["spec"]["template"]["spec"]), number(at(set))));
            pairs.collect()
        };
        let mut sizes = of(|set| &set["spec"]["replicas"]);
        sizes.retain(|_, size| *size > 0);
        let web = self.web();
        let status = &web["status"];
        let progressing = status["conditions"]
            .as_array()
            .and_then(|all| all.iter().find(|one| one["type"] == json!("Progressing")))
            .and_then(|one| one["reason"].as_str());
        Rest {
            sizes,
            available: of(|set| &set["status"]["availableReplicas"]),
            unavailable: number(&status["unavailableReplicas"]),
            updated: number(&status["updatedReplicas"]),
            progressing: progressing.map(str::to_owned),
        }
    }
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().expect("a name").to_owned()
}

fn number(value: &Value) -> i32 {
    value.as_i64().and_then(|number| i32::try_from(number).ok()).unwrap_or_default()
}

fn tag_of(pod_spec: &Value) -> String {
    let image = pod_spec["containers"][0]["image"].as_str().unwrap_or_default();
    image.rsplit(':').next().unwrap_or_default().to_owned()
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|all| {
        all.iter().any(|one| one["type"] == json!("Ready") && one["status"] == json!("True"))
    })
}

fn replay(record: &Trace) -> Trace {
    let mut memory = Memory::new();
    let mut object = manifest(1, "v1");
    json_patch::merge(&mut object["spec"], &record.given);
    object["metadata"]["namespace"] = json!(NAMESPACE);
    memory.server.create("user", object).expect("web is new");
    memory.settle(&[]);
    memory.observe();
    let mut steps = Vec::new();
    for Step { write, .. } in &record.steps {
        // Creation times are whole seconds, and the native controller goes by them.
        memory.clock.advance(SignedDuration::from_secs(1));
        memory.write(write);
        memory.settle(&record.broken);
        let (sizes, least_ready) = memory.observe();
        steps.push(Step { write: write.clone(), sizes, least_ready, rest: memory.rest() });
    }
    Trace { steps, ..record.clone() }
}

#[test]
fn the_in_memory_controllers_do_what_the_real_ones_did() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    let mut wrong = Vec::new();
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the traces") {
        let file = entry.expect("an entry").path();
        if file.extension().is_none_or(|ending| ending != "json") {
            continue;
        }
        count += 1;
        let text = std::fs::read_to_string(&file).expect("a readable file");
        let record: Trace = serde_json::from_str(&text).expect("a trace file");
        let replayed = replay(&record);
        for (number, (real, ours)) in record.steps.iter().zip(&replayed.steps).enumerate() {
            if real.settled() != ours.settled() || ours.least_ready < real.least_ready {
                wrong.push(format!(
                    "{} step {number} {:?}\n  real {:?} {} {:?}\n  ours {:?} {} {:?}",
                    file.file_name().unwrap_or_default().display(),
                    real.write,
                    real.sizes,
                    real.least_ready,
                    real.rest,
                    ours.sizes,
                    ours.least_ready,
                    ours.rest
                ));
                break;
            }
        }
    }
    assert!(count >= 40, "only {count} traces were found");
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
}
