//! One reconcile: what was seen becomes a plan, the plan is carried out, the answers are seen at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::analysis;
use crate::api::AnalysisRun;
use crate::apply::{self, ApplyError, Class, Http, Leading, Seen, Target};
use crate::clock::Clock;
use crate::observe::{Key, Kind, World};
use crate::providers::{MetricSource, run_due};
use crate::rollout::{self, Action, Plan, Urgency, invariants};

/// Counts and sentences are written at most this often.
const SOON: SignedDuration = SignedDuration::from_secs(1);
/// The first and the longest delay after a failed write.
const RETRY: (i64, i64) = (1, 300);
/// A safety net: without any event an object is looked at again after this long.
const RESYNC: SignedDuration = SignedDuration::from_mins(10);

/// Everything a reconcile needs.
pub struct Engine {
    world: Mutex<World>,
    client: kube::Client,
    clock: Arc<dyn Clock>,
    source: Arc<dyn MetricSource>,
    account: String,
    instance: String,
    memory: Mutex<BTreeMap<Key, Memory>>,
}

/// What may be forgotten at any time: it only spaces writes and retries.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    status_at: Option<Timestamp>,
    failures: u32,
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
        }
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
        match key {
            Key::Rollout { namespace, name } => {
                Box::pin(self.rollout(key, namespace, name, leading)).await
            }
            Key::Run { namespace, name } => self.run(key, namespace, name).await,
        }
    }

    async fn rollout(&self, key: &Key, namespace: &str, name: &str, leading: &Leading) -> Outcome {
        let now = self.clock.now();
        let snapshot = self.world().snapshot(namespace, name, &self.account);
        let Some(snapshot) = snapshot else {
            return self.orphan(key, namespace, name, leading).await;
        };
        let mut plan = rollout::plan(&snapshot, now);
        let violations = invariants::check(&snapshot, &plan);
        let mut wake = plan.wake;
        let memory = self.memory(key);
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
        };
        let mut touched = Vec::new();
        let namespace = namespace.to_owned();
        let done = apply::run(&self.client, leading, &target, &plan, |seen| {
            touched.extend(self.seen(&namespace, seen));
        })
        .await;
        let mut outcome = Outcome { wake, touched, violations, plan: Some(plan), error: None };
        match done {
            Ok(()) => {
                let status_at = if writes_status { Some(now) } else { memory.status_at };
                self.remember(key, Memory { status_at, failures: 0 });
                outcome.wake = earliest(outcome.wake, now.saturating_add(RESYNC).ok());
            }
            Err(error) => self.failed(key, memory, error, now, &mut outcome),
        }
        outcome
    }

    /// A Rollout that is gone though a Gate still names it: the fields are given back, the entry goes.
    async fn orphan(&self, key: &Key, namespace: &str, name: &str, leading: &Leading) -> Outcome {
        let found = self.world().orphan(namespace, name);
        let mut outcome = Outcome::default();
        let Some((rollout, plan)) = found else {
            self.memory.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
            return outcome;
        };
        let now = self.clock.now();
        let target =
            Target { rollout: &rollout, account: &self.account, instance: &self.instance, now };
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

    async fn run(&self, key: &Key, namespace: &str, name: &str) -> Outcome {
        let now = self.clock.now();
        let id = (namespace.to_owned(), name.to_owned());
        let run = self.world().runs.get(&id).cloned();
        let mut outcome = Outcome::default();
        let Some(mut run) = run else {
            self.memory.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
            return outcome;
        };
        let before = run.status.clone();
        let plan = analysis::plan(&run, now);
        run.status = Some(plan.status);
        outcome.wake = plan.wake;
        if !plan.due.is_empty() {
            let answers = run_due(self.source.as_ref(), plan.due).await;
            let now = self.clock.now();
            run.status = Some(analysis::record_all(&run, answers, now));
            outcome.wake = analysis::plan(&run, now).wake;
        }
        if run.status == before {
            return outcome;
        }
        let memory = self.memory(key);
        match self.write_run(&run).await {
            Ok(object) => {
                self.remember(key, Memory::default());
                outcome.touched = self.see(Kind::AnalysisRun, &object);
                outcome.touched.retain(|k| k != key);
            }
            Err(error) => self.failed(key, memory, error, now, &mut outcome),
        }
        outcome
    }

    async fn write_run(&self, run: &AnalysisRun) -> Result<Value, ApplyError> {
        let namespace = run.metadata.namespace.as_deref().unwrap_or_default();
        let name = run.metadata.name.as_deref().unwrap_or_default();
        let at =
            format!("/apis/sluice.dev/v1beta1/namespaces/{namespace}/analysisruns/{name}/status");
        let mut object = run.clone();
        object.metadata.managed_fields = None;
        let body = serde_json::to_value(&object)
            .map_err(|source| ApplyError::Encoding { what: format!("PUT {at}"), source })?;
        Http::put(at, body).send(&self.client).await
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

    fn memory(&self, key: &Key) -> Memory {
        let all = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(key).copied().unwrap_or_default()
    }

    fn remember(&self, key: &Key, memory: Memory) {
        let mut all = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(key.clone(), memory);
    }

    /// Spaces the next try: at once after somebody else's write, else 1 s, 2 s, 4 s ... 5 min.
    fn failed(
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
            Class::Conflict if failures < 5 => SignedDuration::from_millis(50),
            Class::Forbidden | Class::Invalid | Class::Missing => {
                SignedDuration::from_secs(seconds.clamp(5, longest))
            }
            Class::Transient | Class::Conflict => SignedDuration::from_secs(seconds.min(longest)),
        };
        outcome.wake = now.saturating_add(delay).ok();
        outcome.error = Some(error);
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
