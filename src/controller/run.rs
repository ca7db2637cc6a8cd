//! The process: the Lease, the watches, the queue and the workers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::calibration::LEARNERS;
use super::engine::{Engine, Outcome};
use super::lease::Lease;
use super::pages::{self, Pages};
use super::watch::{Told, follow};
use crate::apply::Leading;
use crate::clock::Clock;
use crate::observe::{Key, Kind};
use crate::telemetry::Metrics;

/// Rollouts that are worked on at the same time.
const WORKERS: usize = 16;
/// AnalysisRuns that are worked on at the same time: they wait for metric servers, so that a slow one
/// must not hold up the others. The pool bounds what a server is asked.
const RUNS: usize = 4_096;
/// How long reconciles under way may take after the end was asked for.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What the loop needs besides the engine.
pub struct Settings {
    /// Only this namespace, or all.
    pub namespace: Option<String>,
    /// The Lease's namespace; `None` runs without a Lease, as the only controller there is.
    pub lease: Option<String>,
    /// Who we are among the replicas.
    pub identity: String,
    /// Who is asked for firing alerts; `None`: nobody is.
    pub pages: Option<Pages>,
}

/// Why the loop ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The Lease went to somebody else: another process writes now.
    #[error("the Lease was lost: restart, to start from what the cluster says")]
    LeaseLost,
}

/// Runs until `stop` becomes true or the Lease is lost.
///
/// # Errors
/// The Lease was lost.
pub async fn run(
    engine: Arc<Engine>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    metrics: Arc<Metrics>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), RunError> {
    let mut lease = settings
        .lease
        .as_ref()
        .map(|ns| Lease::new(engine.client().clone(), ns, &settings.identity));
    if let Some(lease) = &mut lease
        && !wait_for(lease, clock.as_ref(), &mut stop).await
    {
        return Ok(());
    }
    metrics.leading.set(1);
    // Watches begin when the Lease is ours, so that every list is newer than the last writes of whoever
    // held it before.
    let (tell, told) = mpsc::unbounded_channel();
    let mut watches = JoinSet::new();
    for kind in Kind::ALL {
        let task =
            follow(engine.clone(), kind, settings.namespace.clone(), tell.clone(), stop.clone());
        watches.spawn(task);
    }
    if let Some(asked) = settings.pages {
        watches.spawn(pages::follow(engine.clone(), asked, metrics.clone()));
    }
    let mut work = Loop {
        engine,
        clock: clock.clone(),
        metrics: metrics.clone(),
        leading: Arc::new(Leading::assume()),
        unsynced: Kind::ALL.into_iter().collect(),
        dirty: BTreeSet::new(),
        wakes: BTreeMap::new(),
        running: BTreeSet::new(),
        tasks: JoinSet::new(),
        keys: HashMap::new(),
    };
    let lost = work.serve(told, &mut lease, &mut stop).await;
    metrics.leading.set(0);
    watches.abort_all();
    if lost {
        // Whoever has it writes by now: what is under way here must not.
        work.tasks.shutdown().await;
        return Err(RunError::LeaseLost);
    }
    let ended = async { while work.tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_WORDS, ended).await.is_err() {
        tracing::warn!("writes under way were cut off; the next process starts from facts");
        work.tasks.shutdown().await;
    }
    if let Some(lease) = &mut lease {
        lease.release().await;
    }
    Ok(())
}

/// Waits until the Lease is ours; false when the end was asked for first.
async fn wait_for(lease: &mut Lease, clock: &dyn Clock, stop: &mut watch::Receiver<bool>) -> bool {
    let taken = async {
        while !lease.tick(clock).await {
            tokio::time::sleep(lease.pause()).await;
        }
    };
    tokio::select! {
        () = taken => true,
        _ = stop.changed() => false,
    }
}

struct Loop {
    engine: Arc<Engine>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    leading: Arc<Leading>,
    unsynced: BTreeSet<Kind>,
    dirty: BTreeSet<Key>,
    wakes: BTreeMap<Key, Timestamp>,
    running: BTreeSet<Key>,
    tasks: JoinSet<Outcome>,
    keys: HashMap<tokio::task::Id, Key>,
}

impl Loop {
    /// True when the Lease was lost.
    async fn serve(
        &mut self,
        mut told: mpsc::UnboundedReceiver<Told>,
        lease: &mut Option<Lease>,
        stop: &mut watch::Receiver<bool>,
    ) -> bool {
        let mut renew = Instant::now();
        loop {
            self.start();
            let next = self.next_wake();
            tokio::select! {
                biased;
                _ = stop.changed() => return false,
                // Before what may never end: a flood of events must not cost the Lease.
                () = tokio::time::sleep_until(renew), if lease.is_some() => {
                    let Some(lease) = lease.as_mut() else { continue };
                    let is_held = tokio::select! {
                        is_held = lease.tick(self.clock.as_ref()) => is_held,
                        _ = stop.changed() => return false,
                    };
                    if !is_held {
                        return true;
                    }
                    renew = Instant::now() + lease.pause();
                }
                Some(message) = told.recv() => self.hear(message),
                Some(done) = self.tasks.join_next_with_id() => self.done(done),
                () = tokio::time::sleep(next) => self.wake(),
            }
        }
    }

    fn hear(&mut self, message: Told) {
        match message {
            Told::Look(keys) => self.dirty.extend(keys),
            // What is dirty may be looked at, to say it.
            Told::Refused => {}
            Told::Synced(kind) => {
                if self.unsynced.remove(&kind) && self.unsynced.is_empty() {
                    self.metrics.synced.set(1);
                    self.dirty.extend(self.engine.world().all_keys());
                }
            }
        }
    }

    /// Starts what is due, one task for each object and never two for one.
    fn start(&mut self) {
        if !self.unsynced.is_empty() && !self.engine.world().are_unlisted(&self.unsynced) {
            return;
        }
        if self.dirty.is_empty() {
            return;
        }
        let (mut workers, mut runs, mut learners) = (WORKERS, RUNS, LEARNERS);
        for key in &self.running {
            let free = match key {
                Key::Rollout { .. } | Key::Template { .. } => &mut workers,
                // Runs and calls wait for others most of their time.
                Key::Run { .. } | Key::Hook { .. } => &mut runs,
                Key::Calibration { .. } => &mut learners,
            };
            *free = free.saturating_sub(1);
        }
        let ready: Vec<Key> = self
            .dirty
            .iter()
            .filter(|key| !self.running.contains(*key))
            .filter(|key| {
                let free = match key {
                    Key::Rollout { .. } | Key::Template { .. } => &mut workers,
                    Key::Run { .. } | Key::Hook { .. } => &mut runs,
                    Key::Calibration { .. } => &mut learners,
                };
                let left = free.checked_sub(1);
                *free = left.unwrap_or_default();
                left.is_some()
            })
            .cloned()
            .collect();
        for key in ready {
            self.dirty.remove(&key);
            self.wakes.remove(&key);
            self.running.insert(key.clone());
            let (engine, leading) = (self.engine.clone(), self.leading.clone());
            let task = key.clone();
            let handle = self.tasks.spawn(async move { engine.reconcile(&task, &leading).await });
            self.keys.insert(handle.id(), key);
        }
    }

    fn done(&mut self, done: Result<(tokio::task::Id, Outcome), tokio::task::JoinError>) {
        let (id, outcome) = match done {
            Ok((id, outcome)) => (id, Some(outcome)),
            Err(panicked) => (panicked.id(), None),
        };
        let Some(key) = self.keys.remove(&id) else { return };
        self.running.remove(&key);
        let Some(outcome) = outcome else {
            // A panic in one reconcile is reported and never takes the others with it.
            tracing::error!(?key, "a reconcile panicked: this is a defect of Sluice");
            self.metrics.panics.inc();
            let later = self.clock.now().saturating_add(jiff::SignedDuration::from_mins(1));
            self.wakes.insert(key, later.unwrap_or(Timestamp::MAX));
            return;
        };
        self.metrics.count(&key, &outcome);
        for violation in &outcome.violations {
            tracing::error!(?key, name = violation.name, found = %violation.found, "invariant");
        }
        if let Some(error) = &outcome.error {
            tracing::warn!(?key, error = %error.advice(), "a write was not made");
        }
        self.dirty.extend(outcome.touched);
        if let Some(at) = outcome.wake {
            self.wakes.insert(key, at);
        }
    }

    fn next_wake(&self) -> Duration {
        let idle = Duration::from_secs(60);
        let Some(first) = self.wakes.values().min() else { return idle };
        let span = first.duration_since(self.clock.now());
        Duration::try_from(span).unwrap_or_default().min(idle)
    }

    fn wake(&mut self) {
        let now = self.clock.now();
        let due: Vec<Key> =
            self.wakes.iter().filter(|(_, at)| **at <= now).map(|(k, _)| k.clone()).collect();
        for key in due {
            self.wakes.remove(&key);
            self.dirty.insert(key);
        }
    }
}
