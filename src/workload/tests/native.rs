//! A small model of the native Deployment controller, for tests of what turns the knob.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use crate::api::KnobFields;
use crate::workload::view::{scaled, template_hash};
use crate::workload::{DeploymentView, KnobPatch, PodView, ReplicaSetView, Write};

pub(crate) const START: Timestamp = Timestamp::constant(1_767_225_600, 0);

pub(crate) fn template(version: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"image": version}})
}

pub(crate) fn user(
    surge: IntOrString,
    unavailable: IntOrString,
    min_ready: Option<i32>,
) -> KnobFields {
    KnobFields {
        min_ready_seconds: min_ready,
        progress_deadline_seconds: Some(600),
        type_: Some("RollingUpdate".into()),
        max_surge: Some(surge),
        max_unavailable: Some(unavailable),
        paused: false,
    }
}

/// A ReplicaSet and since when its pods are ready.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Set {
    pub(crate) version: &'static str,
    pub(crate) size: i32,
    pub(crate) min_ready: i32,
    pub(crate) pods: Vec<Option<Timestamp>>,
    /// As its status says, which is behind.
    pub(crate) status: (i32, i32),
}

/// The native controllers, one event at a time. Nothing in it knows the knob.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Native {
    pub(crate) n: i32,
    pub(crate) now: Timestamp,
    pub(crate) version: &'static str,
    pub(crate) fields: KnobFields,
    pub(crate) generation: i64,
    pub(crate) observed: i64,
    /// Oldest first.
    pub(crate) sets: Vec<Set>,
    pub(crate) writes: usize,
}

impl Native {
    /// All of v1 and ready for long, v2 held.
    pub(crate) fn held(n: i32, fields: &KnobFields) -> Self {
        let ready = START - SignedDuration::from_hours(1);
        let pods = vec![Some(ready); usize::try_from(n).unwrap()];
        let min_ready = fields.min_ready_seconds.unwrap_or(0);
        let sets = vec![Set { version: "v1", size: n, min_ready, pods, status: (n, n) }];
        let fields = KnobFields { paused: true, ..fields.clone() };
        Self { n, now: START, version: "v2", fields, generation: 2, observed: 2, sets, writes: 0 }
    }

    pub(crate) fn size(&self, version: &str) -> i32 {
        self.sets.iter().filter(|s| s.version == version).map(|s| s.size).sum()
    }

    pub(crate) fn total(&self) -> i32 {
        self.sets.iter().map(|s| s.size).sum()
    }

    /// Pods that are available by the user's own `minReadySeconds`.
    pub(crate) fn available(&self, min_ready: i32) -> i32 {
        let span = SignedDuration::from_secs(i64::from(min_ready));
        let pods = self.sets.iter().flat_map(|s| &s.pods).flatten();
        i32::try_from(pods.filter(|at| **at + span <= self.now).count()).unwrap()
    }

    /// One sync of the Deployment controller.
    pub(crate) fn sync(&mut self) {
        self.observed = self.generation;
        let surge = scaled(self.fields.max_surge.as_ref().unwrap(), self.n, true);
        let unavailable = scaled(self.fields.max_unavailable.as_ref().unwrap(), self.n, false);
        let min_ready = self.fields.min_ready_seconds.unwrap_or(0);
        let most = self.n + surge;
        if let Some(new) = self.sets.iter_mut().find(|s| s.version == self.version) {
            new.min_ready = min_ready;
        }
        if self.fields.paused {
            return self.sync_paused(most);
        }
        if !self.sets.iter().any(|s| s.version == self.version) {
            let size = (most - self.total()).clamp(0, self.n);
            let version = self.version;
            self.sets.push(Set { version, size, min_ready, pods: vec![], status: (0, 0) });
            return;
        }
        let total = self.total();
        let n = self.n;
        let new = self.sets.iter_mut().find(|s| s.version == self.version).unwrap();
        let size = if new.size > n { n } else { new.size + (most - total).clamp(0, n - new.size) };
        if size != new.size {
            new.size = size;
            return;
        }
        let unready = new.size - new.status.1;
        let spare = total - (n - unavailable) - unready;
        if spare > 0 {
            self.shrink_old(spare, n - unavailable);
        }
    }

    /// Old pods that are not available first, then as many as the available ones allow.
    fn shrink_old(&mut self, spare: i32, least: i32) {
        let mut left = spare;
        for set in self.sets.iter_mut().filter(|s| s.version != self.version && s.size > 0) {
            let by = (set.size - set.status.1).min(left);
            if by < 0 {
                return;
            }
            set.size -= by;
            left -= by;
        }
        let available: i32 = self.sets.iter().map(|s| s.status.1).sum();
        let mut left = available - least;
        for set in self.sets.iter_mut().filter(|s| s.version != self.version) {
            let by = set.size.min(left.max(0));
            set.size -= by;
            left -= by;
        }
    }

    /// While paused the sizes are made to add up, at the largest: growing the newest of equals, shrinking
    /// the oldest.
    fn sync_paused(&mut self, most: i32) {
        let n = self.n;
        let difference = most - self.total();
        let mut active: Vec<&mut Set> = self.sets.iter_mut().filter(|s| s.size > 0).collect();
        match active.as_mut_slice() {
            [] => {}
            [only] => only.size = n,
            several => {
                if difference < 0 {
                    several.reverse();
                }
                let largest = several.iter_mut().max_by_key(|s| s.size).unwrap();
                largest.size = (largest.size + difference).max(0);
            }
        }
    }

    /// One sync of a ReplicaSet: its pods and its status. Pods that are not ready go first.
    pub(crate) fn sync_set(&mut self, index: usize) {
        let now = self.now;
        let Some(set) = self.sets.get_mut(index) else { return };
        let span = SignedDuration::from_secs(i64::from(set.min_ready));
        set.pods.sort_by_key(|p| p.is_none());
        set.pods.resize(usize::try_from(set.size).unwrap(), None);
        let ready = set.pods.iter().flatten().filter(|at| **at + span <= now).count();
        set.status = (set.size, i32::try_from(ready).unwrap());
    }

    /// One pod gets ready.
    pub(crate) fn ready_one(&mut self, pick: usize) {
        let now = self.now;
        let waiting: Vec<&mut Option<Timestamp>> =
            self.sets.iter_mut().flat_map(|s| &mut s.pods).filter(|p| p.is_none()).collect();
        let count = waiting.len();
        if let Some(pod) = waiting.into_iter().nth(pick % count.max(1)) {
            *pod = Some(now);
        }
    }

    pub(crate) fn view(&self) -> DeploymentView {
        let sets = self.sets.iter().map(|s| ReplicaSetView {
            name: format!("web-{}", s.version),
            uid: s.version.into(),
            resource_version: "1".into(),
            hash: s.version.into(),
            revision: 1,
            replicas: s.size,
            min_ready_seconds: s.min_ready,
            status_replicas: s.status.0,
            available: s.status.1,
            template: template(s.version),
            template_hash: template_hash(&template(s.version)),
            pods: s
                .pods
                .iter()
                .enumerate()
                .map(|(i, at)| PodView {
                    name: i.to_string(),
                    created: None,
                    ready_since: *at,
                    problem: None,
                })
                .collect(),
        });
        DeploymentView {
            name: "web".into(),
            uid: "u".into(),
            resource_version: "1".into(),
            generation: self.generation,
            observed_generation: self.observed,
            replicas: self.n,
            fields: self.fields.clone(),
            template: template(self.version),
            template_hash: template_hash(&template(self.version)),
            wanted: None,
            selector: [("app".to_owned(), "web".to_owned())].into(),
            replica_sets: sets.collect(),
            deleting: false,
            owned: None,
        }
    }

    pub(crate) fn write(&mut self, write: &Write) {
        self.writes += 1;
        match write {
            Write::Deployment(patch) => {
                self.generation += 1;
                apply(&mut self.fields, patch);
                if let Some(template) = &patch.template {
                    self.version = if template["spec"]["image"] == "v1" { "v1" } else { "v2" };
                }
            }
            Write::Scale { uid, from, to, .. } => {
                let set = self.sets.iter_mut().find(|s| s.version == uid).unwrap();
                assert_eq!(set.size, *from);
                set.size = *to;
            }
            Write::MinReady { uid, seconds, .. } => {
                self.sets.iter_mut().find(|s| s.version == uid).unwrap().min_ready = *seconds;
            }
        }
        let zero = |v: &Option<IntOrString>| *v == Some(IntOrString::Int(0));
        let both = zero(&self.fields.max_surge) && zero(&self.fields.max_unavailable);
        assert!(!both, "the API server refuses both at 0");
    }
}

fn apply(fields: &mut KnobFields, patch: &KnobPatch) {
    fields.paused = patch.paused.unwrap_or(fields.paused);
    if let Some(seconds) = patch.min_ready_seconds {
        fields.min_ready_seconds = seconds;
    }
    if let Some(seconds) = patch.progress_deadline_seconds {
        fields.progress_deadline_seconds = seconds;
    }
    fields.max_surge = patch.max_surge.clone().or(fields.max_surge.take());
    fields.max_unavailable = patch.max_unavailable.clone().or(fields.max_unavailable.take());
}
