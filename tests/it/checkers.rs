//! What must hold of the stored objects after every single change, whatever the controller, the user
//! and the faults do. The controller's own view of things is not used.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;
use sluice::sim::apiserver::{ApiServer, Change, ChangeKind};

use crate::world::{is_ready, seconds};

/// After a scale event or an edit of a route, everybody has this long to come to terms with it.
const EXCUSE: i64 = 90;

/// A copy of what counts, kept up to date change by change.
pub struct Checker {
    seen: u64,
    replicas: i64,
    max_surge: Value,
    max_unavailable: Value,
    /// Of every pod that is not on its way out: whether it is ready.
    pods: BTreeMap<String, bool>,
    /// ReplicaSets: pod template hash, size.
    sets: BTreeMap<String, (String, i64)>,
    /// EndpointSlices: Service, ready endpoints.
    slices: BTreeMap<String, (String, usize)>,
    route: Value,
    status: Value,
    /// Which excuses last until when: a name of an invariant, and the time.
    excused: BTreeMap<&'static str, Timestamp>,
    /// The release whose steps a scale event has changed.
    scaled: Option<String>,
    /// Broken invariants, each with its time and its numbers.
    pub found: Vec<String>,
}

const BUDGET: &str = "stable_never_below_budget";
const SURGE: &str = "no_more_pods_than_the_users_surge";
const READY: &str = "no_traffic_to_service_without_ready_endpoints";
const WEIGHTS: &str = "weights_sum";
const STEP: &str = "new_pods_within_the_step";

/// A number of pods or a percentage of them.
fn scaled(value: &Value, n: i64, up: bool) -> i64 {
    let Some(text) = value.as_str() else { return value.as_i64().unwrap_or(0) };
    let percent: i64 = text.trim_end_matches('%').parse().unwrap();
    if up { (n * percent + 99) / 100 } else { n * percent / 100 }
}

fn text(object: &Value, at: &str) -> String {
    object.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned()
}

impl Checker {
    /// Begins with what is stored now, everything being at rest.
    pub fn new(server: &ApiServer, max_surge: Value, max_unavailable: Value) -> Self {
        let mut checker = Self {
            seen: 0,
            replicas: 0,
            max_surge,
            max_unavailable,
            pods: BTreeMap::new(),
            sets: BTreeMap::new(),
            slices: BTreeMap::new(),
            route: Value::Null,
            status: Value::Null,
            excused: BTreeMap::new(),
            scaled: None,
            found: Vec::new(),
        };
        let now = server.now();
        for change in server.changes_since(0) {
            checker.seen = change.rv;
            checker.take(&change, now);
        }
        checker.excused.clear();
        checker
    }

    /// The user scaled: what follows from that is the user's.
    fn scaled(&mut self, now: Timestamp) {
        for name in [BUDGET, SURGE, READY, STEP] {
            self.excuse(name, now);
        }
        self.scaled = Some(text(&self.status, "/release/id"));
    }

    /// The user wrote the route: its weights are the user's until they are repaired.
    pub fn route_was_written(&mut self, now: Timestamp) {
        self.excuse(READY, now);
    }

    fn excuse(&mut self, name: &'static str, now: Timestamp) {
        self.excused.insert(name, now.saturating_add(seconds(EXCUSE)).unwrap());
    }

    /// Nobody repairs anything while the controller is dead: excuses that there are last longer.
    pub fn controller_is_dead(&mut self, now: Timestamp) {
        let until = now.saturating_add(seconds(EXCUSE)).unwrap();
        for at in self.excused.values_mut() {
            *at = until;
        }
    }

    /// Takes in every change since the last time, one after the other.
    pub fn follow(&mut self, server: &ApiServer) {
        let now = server.now();
        for change in server.changes_since(self.seen) {
            self.seen = change.rv;
            if self.take(&change, now) {
                self.check(now);
            }
        }
    }

    /// True when it changed something that counts.
    fn take(&mut self, change: &Change, now: Timestamp) -> bool {
        let object = &*change.object;
        let name = text(object, "/metadata/name");
        let gone = change.kind == ChangeKind::Deleted;
        match &*change.resource.plural {
            "pods" => {
                if gone || !object["metadata"]["deletionTimestamp"].is_null() {
                    self.pods.remove(&name);
                } else {
                    self.pods.insert(name, is_ready(object));
                }
            }
            "replicasets" => {
                let hash = text(object, "/metadata/labels/pod-template-hash");
                let size = object["spec"]["replicas"].as_i64().unwrap_or(0);
                self.sets.insert(name, (hash, if gone { 0 } else { size }));
            }
            "endpointslices" => {
                let service = text(object, "/metadata/labels/kubernetes.io~1service-name");
                let endpoints = object["endpoints"].as_array().into_iter().flatten();
                let ready = endpoints.filter(|e| e["conditions"]["ready"] != false).count();
                self.slices.insert(name, (service, if gone { 0 } else { ready }));
            }
            "httproutes" => self.route = object["spec"].clone(),
            "rollouts" => self.status = object["status"].clone(),
            "deployments" => {
                let replicas = object["spec"]["replicas"].as_i64().unwrap_or(0);
                if replicas != self.replicas {
                    self.replicas = replicas;
                    self.scaled(now);
                }
            }
            _ => return false,
        }
        true
    }

    fn check(&mut self, now: Timestamp) {
        let findings = [
            (BUDGET, self.budget()),
            (SURGE, self.surge()),
            (READY, self.unready()),
            (WEIGHTS, self.weights()),
            (STEP, self.step()),
        ];
        for (name, finding) in findings {
            match (finding, self.excused.get(name).copied()) {
                (None, Some(until)) if now >= until => {
                    self.excused.remove(name);
                }
                (None, _) | (Some(_), Some(_)) => {}
                (Some(finding), None) => {
                    // Once each is enough: what follows from it would only be noise.
                    if !self.found.iter().any(|f| f.contains(name)) {
                        self.found.push(format!("{now}: {name}: {finding}"));
                    }
                }
            }
        }
    }

    /// Pods that are ready: never fewer than the user's `maxUnavailable` leaves.
    fn budget(&self) -> Option<String> {
        let ready = self.pods.values().filter(|ready| **ready).count();
        let (surge, mut away) = (
            scaled(&self.max_surge, self.replicas, true),
            scaled(&self.max_unavailable, self.replicas, false),
        );
        if surge == 0 && away == 0 {
            away = 1;
        }
        let least = self.replicas - away;
        let ready = i64::try_from(ready).unwrap();
        (ready < least).then(|| format!("{ready} pods are ready, {least} are the least"))
    }

    /// Counted by the sizes of ReplicaSets, as the native controller counts: a new pod may be there a
    /// moment before the old one has gone.
    fn surge(&self) -> Option<String> {
        let most = self.replicas + scaled(&self.max_surge, self.replicas, true);
        let total: i64 = self.sets.values().map(|(_, size)| size).sum();
        (total > most).then(|| format!("{total} pods, {most} are the most"))
    }

    fn rules(&self) -> impl Iterator<Item = Vec<(String, i64)>> + '_ {
        self.route["rules"].as_array().into_iter().flatten().map(|rule| {
            let backends = rule["backendRefs"].as_array().into_iter().flatten();
            backends.map(|b| (text(b, "/name"), b["weight"].as_i64().unwrap_or(1))).collect()
        })
    }

    fn unready(&self) -> Option<String> {
        if self.replicas == 0 {
            return None;
        }
        for (service, weight) in self.rules().flatten().filter(|(_, weight)| *weight > 0) {
            let slices = self.slices.values().filter(|(of, _)| *of == service);
            if slices.map(|(_, ready)| ready).sum::<usize>() == 0 {
                return Some(format!("{service} has weight {weight} and no ready endpoint"));
            }
        }
        None
    }

    fn weights(&self) -> Option<String> {
        self.rules().find_map(|backends| {
            let sum: i64 = backends.iter().map(|(_, weight)| weight).sum();
            let alone = backends.len() < 2;
            let fits = if alone { sum > 0 } else { sum == 100 };
            (!fits).then(|| format!("{backends:?} is {sum}"))
        })
    }

    /// Never more new pods than the current step wants.
    fn step(&self) -> Option<String> {
        let release = &self.status["release"];
        let going = release["stage"] == "Stepping" && release["state"] != "BeforeStepUpgrade";
        if !going || release["backward"] == true {
            return None;
        }
        if self.scaled.as_deref() == release["id"].as_str() {
            return None;
        }
        let n = self.replicas;
        let wanted = &release["frozenStep"]["replicas"];
        let most = match wanted.as_str() {
            Some("100%") => n,
            Some(_) if n > 1 => scaled(wanted, n, true).min(n - 1),
            Some(_) => scaled(wanted, n, true),
            None => wanted.as_i64()?.min(n),
        };
        let hash = release["canary"].as_str()?;
        let new: i64 = self.sets.values().filter(|(h, _)| h == hash).map(|(_, size)| size).sum();
        (new > most).then(|| format!("{new} new pods in a step of {wanted} of {n}"))
    }
}
