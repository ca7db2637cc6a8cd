//! What the Deployment controller decides in one sync. Start at [`sync`].
//!
//! It follows Kubernetes 1.36: a sync reads one Deployment and the ReplicaSets it owns and may
//! write several objects, but an object that the sync has read only once can be written only once;
//! where the real controller would meet its own conflict, the sync ends and asks to be run again.
//! It refuses nothing; the deprecated rollback annotation is ignored. The pod-template-hash is our
//! own: same letters and length, other digits.

mod history;
mod revision;
mod rolling;
mod scale;
mod status;
mod view;

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::claim::claim;
use super::object::{self, Outcome, Write};
use view::{Set, Wanted};

/// Where the real controller is refused with a conflict: the sync ends and runs again.
struct Conflict;

type Step<T> = Result<T, Conflict>;

/// One sync of a Deployment.
struct Sync {
    deployment: Arc<Value>,
    wanted: Wanted,
    /// The owned ReplicaSets, oldest first, as they were read.
    owned: Vec<Set>,
    now: Timestamp,
    out: Outcome,
    is_written: bool,
}

/// The Deployment's ReplicaSets: the one of the current template, and all others.
#[derive(Clone)]
struct Sets {
    new: Option<Set>,
    old: Vec<Set>,
}

impl Sets {
    fn all(&self) -> impl Iterator<Item = &Set> {
        self.old.iter().chain(&self.new)
    }
}

/// Decides one sync. `sets` are the ReplicaSets that the Deployment owns and those without an owner
/// in its namespace; `has_pods` says whether the ReplicaSet with that uid has a pod that has not
/// ended; only `Recreate` asks.
pub fn sync(
    deployment: &Arc<Value>,
    sets: &[Arc<Value>],
    has_pods: &dyn Fn(&str) -> bool,
    now: Timestamp,
) -> Outcome {
    let mut out = Outcome::default();
    let owned = claim(deployment, sets.iter(), &mut out);
    let mut owned: Vec<Set> = owned.into_iter().map(Set::read).collect();
    owned.sort_by(|one, other| one.age().cmp(&other.age()));
    let mut sync = Sync {
        wanted: Wanted::read(deployment),
        deployment: Arc::clone(deployment),
        owned,
        now,
        out,
        is_written: false,
    };
    if sync.run(has_pods).is_err() {
        sync.out.again = true;
    }
    sync.out
}

impl Sync {
    fn run(&mut self, has_pods: &dyn Fn(&str) -> bool) -> Step<()> {
        if object::is_deleting(&self.deployment) {
            let sets = self.sets(false)?;
            return self.sync_status(&sets);
        }
        self.check_paused()?;
        if self.wanted.is_paused {
            return self.sync_sizes();
        }
        let was_written = self.out.writes.len();
        let sets = self.sets(false)?;
        let is_set_written =
            self.out.writes.iter().skip(was_written).any(|w| matches!(w, Write::Update(_)));
        if is_set_written {
            return Err(Conflict);
        }
        let desired = self.wanted.replicas;
        if sets.all().any(|set| set.replicas > 0 && set.desired().is_some_and(|d| d != desired)) {
            return self.sync_sizes();
        }
        if self.wanted.is_rolling { self.roll() } else { self.recreate(has_pods) }
    }

    /// A paused Deployment, or one that was just scaled: sizes only.
    fn sync_sizes(&mut self) -> Step<()> {
        let sets = self.sets(false)?;
        self.scale(&sets);
        if self.wanted.is_paused {
            self.clean_history(&sets.old);
        }
        self.sync_status(&sets)
    }

    fn recreate(&mut self, has_pods: &dyn Fn(&str) -> bool) -> Step<()> {
        let mut sets = self.sets(false)?;
        let mut is_scaled = false;
        for old in sets.old.iter().filter(|old| old.replicas > 0) {
            is_scaled |= self.resize(old, 0, false).1;
        }
        let still_runs =
            sets.old.iter().any(|old| old.status("replicas") > 0 || has_pods(old.uid()));
        if is_scaled || still_runs {
            return self.sync_progress(&sets);
        }
        if sets.new.is_none() {
            sets = self.sets(true)?;
        }
        if let Some(new) = &sets.new {
            self.resize(new, self.wanted.replicas, false);
        }
        if status::is_complete(&self.wanted, &self.deployment["status"]) {
            self.clean_history(&sets.old);
        }
        self.sync_progress(&sets)
    }

    /// Writes the Deployment's status and annotations; only the first time works.
    fn write_deployment(&mut self, changed: Value) -> Step<()> {
        if self.is_written {
            return Err(Conflict);
        }
        self.is_written = true;
        self.deployment = Arc::new(changed);
        self.out.writes.push(Write::UpdateStatus(Arc::clone(&self.deployment)));
        Ok(())
    }

    fn tell(&mut self, reason: &'static str, message: String) {
        let about = Arc::clone(&self.deployment);
        self.out.writes.push(Write::Event { about, warning: false, reason, message });
    }
}
