//! What must hold of the stored objects after every single change, whatever the controller, the user
//! and the faults do. The controller's own view of things is not used.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;
use sluice::sim::apiserver::{ApiServer, Change, ChangeKind};

use crate::world::{ready_since, seconds};

/// After a scale event or an edit of a route, everybody has this long to come to terms with it.
const EXCUSE: i64 = 90;
/// How a pod was at a moment: on no way out, ready since.
type ReadySince = Option<Timestamp>;

/// A copy of what counts, kept up to date change by change.
pub struct Checker {
    seen: u64,
    replicas: i64,
    max_surge: Value,
    max_unavailable: Value,
    /// The user's `minReadySeconds`.
    min_ready: i64,
    /// How long an excuse lasts.
    excuse: i64,
    /// The user tolerates pods that never get ready: they count.
    tolerant: bool,
    /// The workload is gone: nothing is promised any more.
    over: bool,
    /// Of every pod that is not on its way out: since when it is ready.
    pods: BTreeMap<String, ReadySince>,
    /// ReplicaSets: pod template hash, size.
    sets: BTreeMap<String, (String, i64)>,
    /// EndpointSlices: Service, ready endpoints.
    slices: BTreeMap<String, (String, usize)>,
    route: Value,
    status: Value,
    steps: Value,
    /// Which excuses last until when: a name of an invariant, and the time.
    excused: BTreeMap<&'static str, Timestamp>,
    /// New pods that the last scale event left, of which release: a share keeps them, more come no more.
    left: (Option<String>, i64),
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
        let mut checker = Self::empty(max_surge, max_unavailable);
        let now = server.now();
        for change in server.changes_since(0) {
            checker.seen = change.rv;
            checker.take_change(&change, now);
        }
        checker.excused.clear();
        checker
    }

    /// Knows nothing yet.
    fn empty(max_surge: Value, max_unavailable: Value) -> Self {
        Self {
            seen: 0,
            replicas: 0,
            max_surge,
            max_unavailable,
            min_ready: 0,
            excuse: EXCUSE,
            tolerant: false,
            over: false,
            pods: BTreeMap::new(),
            sets: BTreeMap::new(),
            slices: BTreeMap::new(),
            route: Value::Null,
            status: Value::Null,
            steps: Value::Null,
            excused: BTreeMap::new(),
            left: (None, 0),
            found: Vec::new(),
        }
    }

    /// Begins with a Deployment as its user wrote it; what an excuse allows is over after `excuse`
    /// seconds.
    pub fn of_user(deployment: &Value, excuse: i64) -> Self {
        let spec = &deployment["spec"];
        let rolling = &spec["strategy"]["rollingUpdate"];
        let mut checker =
            Self::empty(rolling["maxSurge"].clone(), rolling["maxUnavailable"].clone());
        checker.min_ready = spec["minReadySeconds"].as_i64().unwrap_or(0);
        checker.excuse = excuse;
        checker
    }

    /// Counts pods whether they are ready or not.
    pub fn tolerant(mut self, tolerant: bool) -> Self {
        self.tolerant = tolerant;
        self
    }

    /// What happened before anything was promised.
    pub fn learn(&mut self, plural: &str, gone: bool, object: &Value, now: Timestamp) {
        self.take(plural, gone, object, now);
        self.excused.clear();
        self.left = (None, 0);
    }

    /// Takes in one change, and checks if it counts.
    pub fn see(&mut self, plural: &str, gone: bool, object: &Value, now: Timestamp) {
        if self.take(plural, gone, object, now) {
            self.check(now);
        }
    }

    /// The user scaled: what follows from that is the user's.
    fn scaled(&mut self, now: Timestamp) {
        for name in [BUDGET, SURGE, READY, STEP] {
            self.excuse(name, now);
        }
    }

    /// The user wrote the route: its weights are the user's until they are repaired.
    pub fn route_was_written(&mut self, now: Timestamp) {
        self.excuse(READY, now);
    }

    fn excuse(&mut self, name: &'static str, now: Timestamp) {
        self.excused.insert(name, now.saturating_add(seconds(self.excuse)).unwrap());
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
            if self.take_change(&change, now) {
                self.check(now);
            }
        }
    }

    fn take_change(&mut self, change: &Change, now: Timestamp) -> bool {
        let gone = change.kind == ChangeKind::Deleted;
        self.take(&change.resource.plural, gone, &change.object, now)
    }

    /// True when it changed something that counts.
    fn take(&mut self, plural: &str, gone: bool, object: &Value, now: Timestamp) -> bool {
        let name = text(object, "/metadata/name");
        match plural {
            "pods" => {
                if gone || !object["metadata"]["deletionTimestamp"].is_null() {
                    self.pods.remove(&name);
                } else {
                    self.pods.insert(name, ready_since(object));
                }
            }
            "replicasets" => {
                let hash = text(object, "/metadata/labels/pod-template-hash");
                let size = object["spec"]["replicas"].as_i64().unwrap_or(0);
                if gone && size > 0 {
                    // Somebody deleted it with its pods.
                    self.scaled(now);
                }
                self.sets.insert(name, (hash, if gone { 0 } else { size }));
            }
            "endpointslices" => {
                let service = text(object, "/metadata/labels/kubernetes.io~1service-name");
                let endpoints = object["endpoints"].as_array().into_iter().flatten();
                let ready = endpoints.filter(|e| e["conditions"]["ready"] != false).count();
                self.slices.insert(name, (service, if gone { 0 } else { ready }));
            }
            "httproutes" => self.route = object["spec"].clone(),
            "rollouts" => {
                self.status = object["status"].clone();
                self.steps = object["spec"]["strategy"]["canary"]["steps"].clone();
            }
            "deployments" if gone => {
                self.over = true;
                self.replicas = 0;
            }
            "deployments" => {
                self.over = false;
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
        if self.over {
            return;
        }
        let step = self.step();
        let findings = [
            (BUDGET, self.budget(now)),
            (SURGE, self.surge()),
            (READY, self.unready()),
            (WEIGHTS, self.weights()),
            (STEP, step),
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

    /// Pods that are ready, and have been so for the user's `minReadySeconds`: never fewer than the
    /// user's `maxUnavailable` leaves.
    fn budget(&self, now: Timestamp) -> Option<String> {
        let long = |since: &Timestamp| now.duration_since(*since) >= seconds(self.min_ready);
        let ready = if self.tolerant {
            self.pods.len()
        } else {
            self.pods.values().flatten().filter(|since| long(since)).count()
        };
        let (ready, least) = (i64::try_from(ready).unwrap(), self.least());
        (ready < least).then(|| {
            let sizes: Vec<i64> = self.sets.values().map(|(_, size)| *size).collect();
            let there = self.pods.len();
            format!(
                "{ready} pods of {there} are available, {least} are the least; ReplicaSets {sizes:?}"
            )
        })
    }

    /// The fewest ready pods that the user's strategy leaves.
    fn least(&self) -> i64 {
        let surge = scaled(&self.max_surge, self.replicas, true);
        let away = scaled(&self.max_unavailable, self.replicas, false);
        self.replicas - if surge == 0 && away == 0 { 1 } else { away }
    }

    /// Counted by the sizes of ReplicaSets, as the native controller counts: a new pod may be there a
    /// moment before the old one has gone. On the way back inside a release an old pod comes before a new
    /// one goes (4/6, 4/7, 3/7 as tried on the real controllers): it would make up for one that goes first
    /// by a new one. So there is one pod more also where the user allows no surge; never more than one.
    fn surge(&self) -> Option<String> {
        let back = self.status["release"]["backward"] == true;
        let surge = scaled(&self.max_surge, self.replicas, true).max(i64::from(back));
        let most = self.replicas + surge;
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
        // The only pod, without a surge: the user's own strategy leaves none.
        if self.least() <= 0 {
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
    fn step(&mut self) -> Option<String> {
        let release = &self.status["release"];
        let going = release["stage"] == "Stepping" && release["state"] != "BeforeStepUpgrade";
        if !going || release["backward"] == true {
            return None;
        }
        let n = self.replicas;
        let wanted = &release["frozenStep"]["replicas"];
        let of = |wanted: &Value| match wanted.as_str() {
            Some("100%") => n,
            Some(_) if n > 1 => scaled(wanted, n, true).min(n - 1),
            Some(_) => scaled(wanted, n, true),
            None => wanted.as_i64().unwrap_or(0).min(n),
        };
        // A share leaves the pods that a number before it has made.
        let before = release["step"].as_u64().and_then(|step| usize::try_from(step).ok())?;
        let before = self.steps.as_array().into_iter().flatten().take(before);
        let kept = before.map(|step| of(&step["replicas"])).max().filter(|_| wanted.is_string());
        let most = of(wanted).max(kept.unwrap_or(0));
        let hash = release["canary"].as_str()?;
        let new: i64 = self.sets.values().filter(|(h, _)| h == hash).map(|(_, size)| size).sum();
        let id = release["id"].as_str().map(str::to_owned);
        let left = match &self.left {
            // While the excuse lasts the native controller spreads the new number over its ReplicaSets.
            _ if self.excused.contains_key(STEP) => new,
            (of, left) if *of == id => new.min(*left),
            _ => 0,
        };
        let found = format!("{new} new pods in a step of {wanted} of {n}, scaling left {left}");
        self.left = (id, left);
        (new > most.max(left)).then_some(found)
    }
}
