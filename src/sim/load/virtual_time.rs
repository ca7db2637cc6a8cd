//! The same requests, pods and scrapes without sockets, one tick of virtual time after the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use serde_json::Value;

use super::generator::{Mix, Outcomes, Visitor};
use super::scraper::{Page, Target};
use crate::sim::gateway::{Request, Rule, View};
use crate::sim::pods::{Behaviour, Behaviours, PodCounters, advance};

struct VirtualPod {
    uid: String,
    app: String,
    behaviour: Behaviour,
    /// Seconds since it was seen first.
    age: f64,
    counters: PodCounters,
}

/// Requests at a fixed rate, routed by a [`View`] and answered by virtual pods.
pub struct VirtualTraffic {
    mix: Mix,
    visitors: Vec<Visitor>,
    behaviours: Behaviours,
    pods: BTreeMap<(String, String), VirtualPod>,
    outcomes: Outcomes,
    rng: SmallRng,
    per_second: f64,
    owed: f64,
    turn: usize,
}

impl VirtualTraffic {
    /// Traffic of these visitors at `per_second` requests each second.
    #[must_use]
    pub fn new(visitors: Vec<Visitor>, per_second: f64, behaviours: Behaviours, seed: u64) -> Self {
        Self {
            mix: Mix::new(visitors.clone(), seed),
            visitors,
            behaviours,
            pods: BTreeMap::new(),
            outcomes: Outcomes::default(),
            rng: SmallRng::seed_from_u64(seed.wrapping_add(1)),
            per_second,
            owed: 0.0,
            turn: 0,
        }
    }

    /// How the requests ended so far.
    #[must_use]
    pub fn outcomes(&self) -> &Outcomes {
        &self.outcomes
    }

    /// How many requests each pod has answered, by namespace and name.
    #[must_use]
    pub fn answered(&self) -> BTreeMap<(String, String), u64> {
        self.pods.iter().map(|(key, pod)| (key.clone(), pod.counters.totals().0)).collect()
    }

    /// Changes the rate from now on.
    pub fn set_rate(&mut self, per_second: f64) {
        self.per_second = per_second;
    }

    /// Lets `seconds` pass: the requests of that span reach the pods that `view` sends them to.
    /// `pods` are the pods there are; a pod that is gone takes its counters with it.
    pub fn tick(&mut self, view: &View, pods: &[Arc<Value>], seconds: f64) {
        self.follow(pods);
        self.owed += self.per_second * seconds;
        let requests = self.owed.max(0.0).floor();
        self.owed -= requests;
        let mut sent = BTreeMap::<(String, String), u64>::new();
        let rules: Vec<Option<Arc<Rule>>> =
            self.visitors.iter().map(|visitor| rule_of(view, visitor)).collect();
        for _ in 0..requests as u64 {
            let Some((index, _)) = self.mix.next() else { return };
            let rule = rules.get(index).cloned().flatten();
            let decision = view.follow(rule, self.rng.next_u64());
            self.turn = self.turn.wrapping_add(1);
            match view.endpoint(&decision, self.turn) {
                Some(endpoint) if self.pods.contains_key(&endpoint.pod) => {
                    *sent.entry(endpoint.pod.clone()).or_default() += 1;
                }
                _ => self.outcomes.elsewhere(),
            }
        }
        for (key, requests) in sent {
            let Some(pod) = self.pods.get_mut(&key) else { continue };
            let behaviour = pod.behaviour.at_age(pod.age);
            let failed = advance(&mut pod.counters, requests, &behaviour, &mut self.rng);
            for i in 0..requests {
                self.outcomes.answer(&pod.behaviour.version, i < failed);
            }
        }
        self.pods.values_mut().for_each(|pod| pod.age += seconds);
    }

    /// The metrics pages of all ready pods.
    #[must_use]
    pub fn pages(&self, pods: &[Arc<Value>]) -> Vec<(Target, Page)> {
        let page = |target: Target| {
            let pod = self.pods.get(&target.pod);
            let page = pod.map(|pod| pod.counters.exposition(&pod.app, &pod.behaviour.version));
            (target, page.ok_or_else(|| "the pod is gone".to_owned()))
        };
        pods.iter().filter_map(|pod| Target::of(pod)).map(page).collect()
    }

    fn follow(&mut self, pods: &[Arc<Value>]) {
        let mut there = BTreeMap::new();
        for pod in pods {
            let metadata = &pod["metadata"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let key = (
                metadata["namespace"].as_str().unwrap_or("default").to_owned(),
                text(&metadata["name"]),
            );
            let uid = text(&metadata["uid"]);
            let known = self.pods.remove(&key).filter(|pod| pod.uid == uid);
            let current = known.unwrap_or_else(|| {
                let labels = &metadata["labels"];
                let app =
                    ["app", "app.kubernetes.io/name"].iter().find_map(|l| labels[*l].as_str());
                let image = text(&pod["spec"]["containers"][0]["image"]);
                let behaviour = self.behaviours.of(&image).of_a_pod(&mut self.rng);
                let mut counters = PodCounters::default();
                if behaviour.lived > 0 {
                    counters.live(&behaviour, &mut self.rng);
                }
                let app = app.unwrap_or("app").to_owned();
                VirtualPod { uid, app, behaviour, age: 0.0, counters }
            });
            there.insert(key, current);
        }
        self.pods = there;
    }
}

fn rule_of(view: &View, visitor: &Visitor) -> Option<Arc<Rule>> {
    let (path, query) = visitor.path.split_once('?').unwrap_or((&visitor.path, ""));
    let Visitor { host, headers, .. } = visitor;
    view.rule(&Request { host, method: "GET", path, query, headers })
}
