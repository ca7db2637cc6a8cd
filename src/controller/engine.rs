//! One reconcile: what was seen becomes a plan, the plan is carried out, the answers are seen at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::calibration::Seats;
use super::counts::Ran;
use super::hooks::{Called, Calls};
use super::pending::Pending;
use crate::api::Rollout;
use crate::apply::{self, ApplyError, Class, Leading, Seen, Target};
use crate::clock::Clock;
use crate::hooks;
use crate::observe::{Key, Kind, World};
use crate::providers::MetricSource;
use crate::rollout::{self, Action, Plan, Refusal, RefusedWrite, Urgency, invariants};

/// Counts and sentences are written at most this often.
const SOON: SignedDuration = SignedDuration::from_secs(1);
/// The first and the longest delay after a failed write.
const RETRY: (i64, i64) = (1, 300);
/// What is refused is told on the object again, in other words, at most this often.
const TOLD: SignedDuration = SignedDuration::from_secs(10);
/// A safety net: without any event an object is looked at again after this long.
const RESYNC: SignedDuration = SignedDuration::from_mins(10);

/// Everything a reconcile needs.
pub struct Engine {
    world: Mutex<World>,
    client: kube::Client,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) source: Arc<dyn MetricSource>,
    pub(super) account: String,
    pub(super) instance: String,
    memory: Mutex<BTreeMap<Key, Memory>>,
    pending: Mutex<BTreeMap<Key, Pending>>,
    pub(super) hooks: Arc<dyn hooks::Caller>,
    pub(super) calls: Calls,
    pub(super) seats: Seats,
}

/// What may be forgotten at any time: it only spaces writes and retries.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Memory {
    status_at: Option<Timestamp>,
    failures: u32,
    /// When it was last told on the object that its writes are refused, as long as they are.
    refused_at: Option<Timestamp>,
    /// The change of a MetricProvider that a run knew when it asked.
    pub(super) asked_at: u64,
}

impl Memory {
    /// Nothing but the change that a run knew when it asked.
    pub(super) fn asked(asked_at: u64) -> Self {
        Self { asked_at, ..Self::default() }
    }
}

/// What came of a reconcile.
#[derive(Debug, Default)]
pub struct Outcome {
    /// When to look again at the latest.
    pub wake: Option<Timestamp>,
    /// What else has to be looked at because of what was written.
    pub touched: Vec<Key>,
    /// What went wrong.
    pub error: Option<ApplyError>,
    /// Broken invariants: a defect of ours.
    pub violations: Vec<invariants::Violation>,
    /// The plan that was carried out.
    pub plan: Option<Plan>,
    /// What came of an AnalysisRun.
    pub ran: Option<Ran>,
    /// The hook that was called.
    pub called: Option<Called>,
}

impl Engine {
    /// An engine with an empty world. `account` is who the API server says we are.
    #[must_use]
    pub fn new(
        client: kube::Client,
        clock: Arc<dyn Clock>,
        source: Arc<dyn MetricSource>,
        account: impl Into<String>,
        instance: impl Into<String>,
    ) -> Self {
        Self {
            world: Mutex::new(World::new()),
            client,
            clock,
            source,
            account: account.into(),
            instance: instance.into(),
            memory: Mutex::default(),
            pending: Mutex::default(),
            hooks: Arc::new(hooks::Http::default()),
            calls: Calls::default(),
            seats: Seats::default(),
        }
    }

    /// The same with another way to call hooks.
    #[must_use]
    pub fn with_hooks(self, hooks: Arc<dyn hooks::Caller>) -> Self {
        Self { hooks, ..self }
    }

    /// The world, locked. Never hold it over an await.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client that writes go through.
    #[must_use]
    pub fn client(&self) -> &kube::Client {
        &self.client
    }

    /// Looks at one object and does what follows.
    pub async fn reconcile(&self, key: &Key, leading: &Leading) -> Outcome {
        let needs_all = matches!(key, Key::Run { .. } | Key::Template { .. });
        if needs_all && self.world().blind().is_some() {
            // Everything is looked at when all is listed.
            return Outcome::default();
        }
        match key {
            Key::Rollout { namespace, name } => {
                Box::pin(self.rollout(key, namespace, name, leading)).await
            }
            Key::Run { namespace, name } => Box::pin(self.run(key, namespace, name)).await,
            Key::Hook { namespace, name, id } => Box::pin(self.hook(namespace, name, id)).await,
            Key::Template { namespace, name } => {
                Box::pin(self.template(key, namespace, name)).await
            }
            Key::Calibration { namespace, name } => {
                Box::pin(self.calibrate(key, namespace, name)).await
            }
        }
    }

    async fn rollout(&self, key: &Key, namespace: &str, name: &str, leading: &Leading) -> Outcome {
        let now = self.clock.now();
        let (snapshot, gate) = {
            let world = self.world();
            (world.snapshot(namespace, name, &self.account), world.gate_at(namespace))
        };
        let Some(mut snapshot) = snapshot else {
            self.calls.forget(namespace, name);
            return Box::pin(self.orphan(key, namespace, name, leading)).await;
        };
        snapshot.hooks = self.calls.seen(namespace, name);
        let memory = self.memory(key);
        if snapshot.refusal.is_none() && memory.refused_at.is_some() {
            snapshot.refusal = Some(Refusal::Write);
        }
        let mut plan = rollout::plan(&snapshot, now);
        let violations = invariants::check(&snapshot, &plan);
        let mut wake = plan.wake;
        if plan.urgency == Urgency::Soon {
            let due = memory.status_at.and_then(|t| t.saturating_add(SOON).ok());
            if due.is_none_or(|due| now >= due) {
                plan.actions.push(Action::Status);
            } else {
                wake = earliest(wake, due);
            }
        }
        let writes_status = plan.actions.contains(&Action::Status);
        let target = Target {
            rollout: &snapshot.rollout,
            account: &self.account,
            instance: &self.instance,
            now,
            gate,
        };
        let mut touched: Vec<Key> =
            self.uncalibrated(&snapshot, namespace, name).into_iter().collect();
        let done = apply::run(&self.client, leading, &target, &plan, |seen| {
            touched.extend(self.seen(namespace, seen));
        })
        .await;
        let calls = std::mem::take(&mut plan.calls);
        touched.extend(self.calls.take(namespace, name, calls, &plan.status, done.is_ok()));
        let plan = Some(plan);
        let mut outcome = Outcome { wake, touched, violations, plan, ..Outcome::default() };
        match done {
            Ok(()) => {
                let status_at = if writes_status { Some(now) } else { memory.status_at };
                self.remember(key, Memory { status_at, failures: 0, refused_at: None, ..memory });
                if memory.refused_at.is_some() {
                    // It is refused no more, and the Rollout does not say so yet.
                    outcome.touched.push(key.clone());
                }
                outcome.wake = earliest(outcome.wake, now.saturating_add(RESYNC).ok());
            }
            Err(error) => {
                self.tell_refused(key, &snapshot.rollout, leading, &error).await;
                let memory = self.memory(key);
                self.failed(key, memory, error, now, &mut outcome);
            }
        }
        outcome
    }

    /// Says on a Rollout that its writes are refused. Nothing else of it is written: what was planned is not
    /// done.
    async fn tell_refused(
        &self,
        key: &Key,
        rollout: &Rollout,
        leading: &Leading,
        error: &ApplyError,
    ) {
        let now = self.clock.now();
        let memory = self.memory(key);
        let (after, reason) = told(error.class());
        let again = memory.refused_at.and_then(|at| at.saturating_add(TOLD).ok());
        if memory.failures.saturating_add(1) < after || again.is_some_and(|at| now < at) {
            return;
        }
        let id = |text: &Option<String>| text.clone().unwrap_or_default();
        let id = (id(&rollout.metadata.namespace), id(&rollout.metadata.name));
        // What was written before the refusal is in it.
        let Some(rollout) = self.world().rollouts.get(&id).cloned() else { return };
        let (what, text) = (error.head(), error.advice());
        let write = RefusedWrite { reason, what: &what, text: &text };
        let plan = rollout::tell_refused(&rollout, now, write, memory.refused_at.is_none());
        self.remember(key, Memory { refused_at: Some(now), ..memory });
        let Some(plan) = plan else { return };
        let (account, instance) = (self.account.as_str(), self.instance.as_str());
        let target = Target { rollout: &rollout, account, instance, now, gate: None };
        let told = apply::run(&self.client, leading, &target, &plan, |seen| {
            let _planned_again_when_due = self.seen(&id.0, seen);
        });
        if let Err(error) = told.await {
            tracing::warn!(?key, error = %error.advice(), "a refusal was not told");
        }
    }

    /// A Rollout that is gone though a Gate still names it: the fields are given back, the entry goes.
    async fn orphan(&self, key: &Key, namespace: &str, name: &str, leading: &Leading) -> Outcome {
        let (found, gate) = {
            let world = self.world();
            (world.orphan(namespace, name), world.gate_at(namespace))
        };
        let mut outcome = Outcome::default();
        let Some((rollout, plan)) = found else {
            self.forget(key);
            return outcome;
        };
        let now = self.clock.now();
        let (account, instance) = (self.account.as_str(), self.instance.as_str());
        let target = Target { rollout: &rollout, account, instance, now, gate };
        let done = apply::run(&self.client, leading, &target, &plan, |seen| {
            outcome.touched.extend(self.seen(namespace, seen));
        })
        .await;
        let memory = self.memory(key);
        match done {
            Ok(()) => outcome.touched.push(key.clone()),
            Err(error) => self.failed(key, memory, error, now, &mut outcome),
        }
        outcome
    }

    /// Takes an object in; says what has to be looked at because of it.
    pub fn see(&self, kind: Kind, object: &Value) -> Vec<Key> {
        self.world().apply(kind, object)
    }

    fn seen(&self, namespace: &str, seen: Seen) -> Vec<Key> {
        match seen {
            Seen::Object(kind, object) => self.see(kind, &object),
            Seen::Proof(workload, proof) => {
                self.world().proven((namespace.to_owned(), workload), proof)
            }
        }
    }

    pub(super) fn memory(&self, key: &Key) -> Memory {
        let all = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(key).copied().unwrap_or_default()
    }

    /// The questions of a run that are under way: they are the caller's until they are kept again.
    pub(super) fn pending(&self, key: &Key) -> Pending {
        let mut all = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(key).unwrap_or_default()
    }

    pub(super) fn keep(&self, key: &Key, pending: Pending) {
        if !pending.is_empty() {
            let mut all = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            all.insert(key.clone(), pending);
        }
    }

    pub(super) fn forget(&self, key: &Key) {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    pub(super) fn remember(&self, key: &Key, memory: Memory) {
        let mut all = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(key.clone(), memory);
    }

    /// Spaces the next try: at once after somebody else's write, else 1 s, 2 s, 4 s ... 5 min.
    pub(super) fn failed(
        &self,
        key: &Key,
        memory: Memory,
        error: ApplyError,
        now: Timestamp,
        outcome: &mut Outcome,
    ) {
        let failures = memory.failures.saturating_add(1);
        self.remember(key, Memory { failures, ..memory });
        let (first, longest) = RETRY;
        let seconds = first.saturating_mul(1_i64 << failures.min(16).saturating_sub(1));
        let delay = match error.class() {
            // The newer object is on its way by the watch; this is for the case that it is not.
            Class::Conflict => SignedDuration::from_millis(50_i64 << failures.min(13))
                .min(SignedDuration::from_secs(longest)),
            Class::Forbidden | Class::Invalid | Class::Missing => {
                SignedDuration::from_secs(seconds.clamp(5, longest))
            }
            Class::Transient => SignedDuration::from_secs(seconds.min(longest)),
        };
        outcome.wake = now.saturating_add(delay).ok();
        outcome.error = Some(error);
    }
}

/// After how many failures in a row a refusal is told, and how: at once where the same write is refused
/// again for sure. Conflicts come in a dozen seconds then.
fn told(class: Class) -> (u32, &'static str) {
    match class {
        Class::Forbidden => (1, "WriteForbidden"),
        Class::Invalid => (1, "WriteInvalid"),
        Class::Missing => (5, "WriteMissing"),
        Class::Transient => (5, "WriteFailed"),
        Class::Conflict => (9, "WriteConflict"),
    }
}

/// The earlier of two instants.
#[must_use]
pub fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
