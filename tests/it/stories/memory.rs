//! Stories on the cluster in the binary, in virtual time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sluice::sim::apiserver::{ApiServer, Call, ChangeKind, PatchType, Verb};
use sluice::sim::cluster::{self, ACCOUNT, Options, USER};
use sluice::sim::load::Visitor;
use sluice::sim::pods;
use sluice::sim::scenario::{Deed, Objects};

use super::record::{FOLLOWED, Seen};
use super::script::{Cluster, Script};
use crate::world::{NAMESPACE, rollouts};

/// A cluster in virtual time whose every change is noted with its time.
pub struct Memory {
    cluster: cluster::Cluster,
    record: Arc<Mutex<Record>>,
}

#[derive(Default)]
struct Record {
    seen: u64,
    changes: Vec<Seen>,
}

impl Record {
    fn follow(&mut self, server: &ApiServer) {
        let at = server.now();
        for change in server.changes_since(self.seen) {
            self.seen = change.rv;
            let plural = change.resource.plural.to_string();
            let gone = change.kind == ChangeKind::Deleted;
            if FOLLOWED.iter().any(|(_, _, followed)| *followed == plural) {
                let object = change.object;
                self.changes.push(Seen { version: change.rv, at, plural, gone, object });
            }
        }
    }
}

impl Memory {
    pub fn new(script: &Script) -> Self {
        let mut answers = pods::Behaviours::default();
        for (image, behaviour) in &script.scenario.answers {
            answers.set(image, behaviour.clone());
        }
        let visitors = match &script.scenario.load {
            Some((host, rate)) => (vec![Visitor::plain(host)], *rate),
            None => (Vec::new(), 0.0),
        };
        let cluster = cluster::Cluster::new(Options {
            start: "2026-01-01T00:00:00Z".parse().unwrap(),
            seed: 1,
            kubelet: script.kubelet(),
            answers,
            visitors,
        })
        .unwrap();
        for (name, words) in &script.scenario.hooks {
            cluster.hooks.set(name, words.iter().copied());
        }
        Self { cluster, record: Arc::default() }
    }
}

impl Cluster for Memory {
    fn now(&self) -> Timestamp {
        self.cluster.server.now()
    }

    async fn pass(&mut self, span: Duration) {
        let record = self.record.clone();
        let span = SignedDuration::try_from(span).unwrap();
        let end = self.now() + span;
        let note = move |server: &ApiServer| {
            record.lock().unwrap().follow(server);
            false
        };
        let _never = self.cluster.run_while(span, note).await;
        // A cluster in which somebody writes without end stands still.
        assert!(self.now() >= end || !self.cluster.fought, "{}", self.cluster.transcript);
    }

    fn objects(&self) -> Objects {
        let mut out = Objects::default();
        out.failed_elsewhere = self.cluster.outcomes().failed_elsewhere;
        for (kind, key) in Objects::kinds().unwrap() {
            for object in self.cluster.server.list(&key, Some(NAMESPACE)) {
                if kind != "service" || object["metadata"]["name"] != "kubernetes" {
                    out.add(kind, (*object).clone());
                }
            }
        }
        out
    }

    async fn create(&mut self, manifest: &Value) -> Result<Value, String> {
        let mut object = manifest.clone();
        object["metadata"]["namespace"] = json!(NAMESPACE);
        self.cluster.server.create(USER, object).map_err(|e| format!("{e:?}"))
    }

    async fn perform(&mut self, deed: &Deed) -> Result<(), String> {
        let server = &self.cluster.server;
        let done = match deed {
            Deed::Controller(true) => {
                self.cluster.start_controller();
                return Ok(());
            }
            Deed::Controller(false) => {
                self.cluster.kill_controller();
                return Ok(());
            }
            Deed::Expect(_) => return Ok(()),
            Deed::Hook(name, words) => {
                self.cluster.hooks.set(name, words.iter().copied());
                return Ok(());
            }
            Deed::Alert { rollout, body } => {
                let call = Call::new(ACCOUNT, Verb::Patch(PatchType::Merge), &rollouts());
                let call = call.namespace(NAMESPACE).name(rollout).subresource("status");
                server.call(call.body(body.clone()))
            }
            Deed::Create { body, .. } => return self.create(body).await.map(|_| ()),
            Deed::Delete { key, name } => server.delete(USER, key, NAMESPACE, name),
            Deed::Patch { key, name, subresource, body } => {
                let mut call = Call::new(USER, Verb::Patch(PatchType::Merge), key)
                    .namespace(NAMESPACE)
                    .name(name)
                    .body(body.clone());
                call.subresource = subresource.map(str::to_owned);
                server.call(call)
            }
        };
        done.map(|_| ()).map_err(|e| format!("{e:?}"))
    }

    fn changes(&mut self) -> Vec<Seen> {
        let mut record = self.record.lock().unwrap();
        record.follow(&self.cluster.server);
        record.changes.clone()
    }
}
