//! A controller of ours: the production engine, what it has seen and what it will look at.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};

use super::ACCOUNT;
use crate::apply::Leading;
use crate::clock::{Clock, SimClock};
use crate::controller::Engine;
use crate::controller::engine::Outcome;
use crate::observe::{Key, Kind};
use crate::sim::alarms::Alarms;
use crate::sim::apiserver::{ApiServer, ChangeKind, ResourceKey};
use crate::sim::hooks::Script;
use crate::sim::promql::api::SharedTsdb;
use crate::sim::promql::{self, TsdbSource};

/// The clock of the controller's machine, which may be wrong.
#[derive(Debug)]
struct MachineClock {
    right: Arc<SimClock>,
    off_by: Mutex<SignedDuration>,
}

impl MachineClock {
    fn off_by(&self) -> SignedDuration {
        *self.off_by.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for MachineClock {
    fn now(&self) -> Timestamp {
        self.right.now().saturating_add(self.off_by()).unwrap_or(Timestamp::MAX)
    }
}

/// One controller.
pub(super) struct Brain {
    engine: Arc<Engine>,
    clock: Arc<MachineClock>,
    leading: Leading,
    seen: u64,
    dirty: BTreeSet<Key>,
    wakes: Alarms<Key>,
    /// Calls of hooks that are not answered yet: nobody waits for them.
    calls: Vec<BoxFuture<'static, Outcome>>,
    /// Its watches show nothing.
    pub(super) blind: bool,
}

impl Brain {
    /// A controller with an empty memory that has just listed everything.
    pub(super) fn start(
        server: &ApiServer,
        right: Arc<SimClock>,
        db: SharedTsdb,
        hooks: Arc<Script>,
    ) -> Self {
        let off_by = Mutex::new(SignedDuration::ZERO);
        let clock = Arc::new(MachineClock { right, off_by });
        let source = TsdbSource::new(promql::Engine::default(), db, clock.clone());
        let client = server.client(ACCOUNT);
        let engine = Engine::new(client, clock.clone(), Arc::new(source), ACCOUNT, "sim-0")
            .with_hooks(hooks);
        let mut brain = Self {
            engine: Arc::new(engine),
            clock,
            leading: Leading::assume(),
            seen: 0,
            dirty: BTreeSet::new(),
            wakes: Alarms::default(),
            calls: Vec::new(),
            blind: false,
        };
        brain.list(server);
        brain.dirty.extend(brain.engine.world().all_keys());
        brain
    }

    /// Lists everything anew, as after a watch that cannot go on where it ended.
    pub(super) fn list(&mut self, server: &ApiServer) {
        for kind in Kind::ALL {
            let (group, version, _, plural) = kind.names();
            let mut names = BTreeSet::new();
            for object in server.list(&ResourceKey::new(group, version, plural), None) {
                self.dirty.extend(self.engine.see(kind, &object));
                let part = |name: &str| {
                    let text = object.pointer(&format!("/metadata/{name}"));
                    text.and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
                };
                names.insert((part("namespace"), part("name")));
            }
            self.dirty.extend(self.engine.world().retain(kind, &names));
        }
        self.seen = server.resource_version();
    }

    /// Its clock is off by so much from now on. What it wanted to be woken for it looks at once.
    pub(super) fn step_clock(&mut self, off_by: SignedDuration) {
        *self.clock.off_by.lock().unwrap_or_else(PoisonError::into_inner) = off_by;
        self.dirty.extend(self.wakes.take_due(Timestamp::MAX));
    }

    /// Takes in what has changed.
    pub(super) fn observe(&mut self, server: &ApiServer) {
        if self.blind {
            return;
        }
        for change in server.changes_since(self.seen) {
            self.seen = change.rv;
            let Some(kind) = kind_of(&change.resource) else { continue };
            let keys = match change.kind {
                ChangeKind::Deleted => self.engine.world().delete(kind, &change.object),
                _ => self.engine.see(kind, &change.object),
            };
            self.dirty.extend(keys);
        }
    }

    /// Looks at one object, if there is one to look at.
    pub(super) async fn reconcile_one(&mut self) -> Option<Outcome> {
        if let Some(outcome) = self.answered() {
            return Some(outcome);
        }
        let key = self.dirty.pop_first()?;
        self.wakes.clear(&key);
        if let Key::Hook { .. } = key {
            let engine = self.engine.clone();
            let call = async move { engine.reconcile(&key, &Leading::assume()).await };
            self.calls.push(Box::pin(call));
            return self.answered();
        }
        let mut outcome = Box::pin(self.engine.reconcile(&key, &self.leading)).await;
        self.dirty.extend(std::mem::take(&mut outcome.touched));
        if let Some(at) = outcome.wake {
            // By its own clock.
            let right = at.saturating_sub(self.clock.off_by()).unwrap_or(Timestamp::MAX);
            self.wakes.set(&key, right);
        }
        Some(outcome)
    }

    /// What came of a hook that has answered.
    fn answered(&mut self) -> Option<Outcome> {
        let calls = self.calls.iter_mut().enumerate();
        let ended = |(at, call): (usize, &mut BoxFuture<'static, Outcome>)| {
            call.now_or_never().map(|outcome| (at, outcome))
        };
        let (at, mut outcome) = { calls }.find_map(ended)?;
        drop(self.calls.remove(at));
        self.dirty.extend(std::mem::take(&mut outcome.touched));
        Some(outcome)
    }

    pub(super) fn idle(&self) -> bool {
        self.dirty.is_empty()
    }

    pub(super) fn next_wake(&self) -> Option<Timestamp> {
        self.wakes.earliest()
    }

    pub(super) fn wake(&mut self, now: Timestamp) {
        self.dirty.extend(self.wakes.take_due(now));
    }
}

/// The watched kind of a resource.
fn kind_of(resource: &ResourceKey) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| {
        let (group, _, _, plural) = kind.names();
        resource.group == group && resource.plural == plural
    })
}
