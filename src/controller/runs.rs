//! One reconcile of an AnalysisRun: what is due is asked, the answers that have come are written. What is not
//! answered yet is waited for in the next reconcile, at once.
//!
//! Secrets of arguments live for the length of a reconcile. A run that waits for a MetricProvider is
//! asked again when the provider changes, whatever the pause after its error.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::counts::Ran;
use super::engine::{Engine, Memory, Outcome, earliest};
use crate::analysis::{self, Query, Secrets, calibration};
use crate::api::{AnalysisPhase, AnalysisRun};
use crate::apply::{ApplyError, Http, Regarding, tell};
use crate::observe::{Key, Kind};
use crate::providers::{self, ProviderId, run_cancel};

/// A run that is kept for a release although its time to live is over is looked at again after this time.
const NEEDED: SignedDuration = SignedDuration::from_hours(1);

impl Engine {
    pub(super) async fn run(&self, key: &Key, namespace: &str, name: &str) -> Outcome {
        let now = self.clock.now();
        let id = (namespace.to_owned(), name.to_owned());
        let run = self.world().runs.get(&id).cloned();
        let mut outcome = Outcome::default();
        let mut pending = self.pending(key);
        let Some(mut run) = run else {
            self.forget(key);
            outcome.ran = Some(Ran::gone(namespace, name));
            return outcome;
        };
        let before = run.status.clone();
        let mut memory = self.memory(key);
        let Some(secrets) = self.prepared(key, namespace, &mut run, &mut outcome).await else {
            return outcome;
        };
        let mut plan = analysis::plan_with(&run, &secrets, now);
        self.add_healed(&run, &secrets, memory.asked_at, &mut plan.due, now);
        run.status = Some(plan.status);
        outcome.wake = plan.wake;
        if plan.delete {
            self.expire(key, &run, memory, &mut outcome).await;
            return outcome;
        }
        let mut come = Vec::new();
        self.sweep(plan.sweep).await;
        if is_over(&run) {
            // Whatever is still under way answers nothing any more.
            pending = Default::default();
        } else if !plan.due.is_empty() || !plan.cancel.is_empty() {
            memory.asked_at = self.teach(plan.due.iter().chain(&plan.cancel));
            pending.ask(&self.source, &self.clock, plan.due);
            let mut answers = run_cancel(self.source.as_ref(), plan.cancel).await;
            come = pending.some(now, plan.wake).await;
            answers.extend(come.iter().flat_map(|answered| answered.outcomes.iter().cloned()));
            let now = self.clock.now();
            if !answers.is_empty() {
                let observed = self.world().observed(&run);
                let status = analysis::record_all_with(&run, &secrets, &observed, answers, now);
                run.status = Some(status);
                self.sweep(analysis::left_under_way(&run, &secrets)).await;
                outcome.wake = analysis::plan_with(&run, &secrets, now).wake;
                self.remember(key, memory);
            }
            if !pending.is_empty() {
                outcome.wake = earliest(outcome.wake, Some(now));
            }
        }
        self.keep(key, pending);
        let mut ran = Ran::of(&run, before.as_ref(), &come);
        if run.status != before {
            match self.write_run(&run).await {
                Ok(object) => {
                    self.remember(key, Memory::asked(memory.asked_at));
                    outcome.touched = self.see(Kind::AnalysisRun, &object);
                    outcome.touched.retain(|k| k != key);
                    let now = self.clock.now();
                    let about = Regarding::run(&run);
                    tell(self.client(), &about, &self.instance, now, &ran.events).await;
                }
                Err(error) => {
                    ran.events.clear();
                    self.failed(key, memory, error, now, &mut outcome);
                }
            }
        }
        outcome.ran = Some(ran);
        outcome
    }

    /// Ends what answers nothing any more.
    async fn sweep(&self, left: Vec<Query>) {
        self.teach(left.iter());
        let _nothing_to_record = run_cancel(self.source.as_ref(), left).await;
    }

    /// What a run takes in before it asks: the evidence that it goes on with, Secrets, and what was learnt.
    async fn prepared(
        &self,
        key: &Key,
        namespace: &str,
        run: &mut AnalysisRun,
        outcome: &mut Outcome,
    ) -> Option<Secrets> {
        self.go_on(run, namespace);
        let secrets = self.secrets(run, namespace).await;
        match self.calibrated(run, &secrets, namespace).await {
            Ok(()) => Some(secrets),
            Err(error) => {
                self.failed(key, self.memory(key), error, self.clock.now(), outcome);
                None
            }
        }
    }

    /// A run that has not started goes on with the evidence of the run that it names.
    fn go_on(&self, run: &mut AnalysisRun, namespace: &str) {
        let started = run.status.as_ref().is_some_and(|status| status.started_at.is_some());
        let named = run.spec.release.as_ref().and_then(|release| release.continues.clone());
        let Some(named) = named.filter(|_| !started) else { return };
        if let Some(before) = self.world().runs.get(&(namespace.to_owned(), named)) {
            run.status = Some(analysis::continued(run, before));
        }
    }

    /// A run takes what was learnt of the service's past at its start, and keeps to it.
    async fn calibrated(
        &self,
        run: &mut AnalysisRun,
        secrets: &Secrets,
        namespace: &str,
    ) -> Result<(), ApplyError> {
        let taken = run.status.as_ref().is_some_and(|status| status.calibration.is_some());
        let over = run.status.as_ref().is_some_and(|status| status.completed_at.is_some());
        let Some(release) = run.spec.release.as_ref() else { return Ok(()) };
        if taken || over {
            return Ok(());
        }
        let learnt = match run.spec.calibration {
            Some(_) => self.learnt(namespace, &release.rollout).await?,
            None => Err(calibration::NOT_ASKED.to_owned()),
        };
        let learnt = learnt.as_ref().map_err(Clone::clone);
        if let Some(taken) = calibration::begin(&run.spec, secrets, learnt) {
            run.status.get_or_insert_default().calibration = Some(taken);
        }
        Ok(())
    }

    /// The Secrets that the run's arguments name. One that cannot be read is missing, and waited for.
    async fn secrets(&self, run: &AnalysisRun, namespace: &str) -> Secrets {
        let needed = analysis::secrets_needed(run);
        if needed.is_empty() || is_over(run) {
            return Secrets::default();
        }
        match providers::arguments(self.client(), namespace, &needed).await {
            Ok(secrets) => secrets,
            Err(error) => {
                tracing::warn!(namespace, %error, "a Secret of an analysis argument was not read");
                Secrets::default()
            }
        }
    }

    /// Tells the source what the MetricProviders are that are asked now; returns the change that it
    /// knows with this.
    pub(super) fn teach<'a>(&self, asked: impl Iterator<Item = &'a Query>) -> u64 {
        let world = self.world();
        let mut asked_at = 0;
        for query in asked {
            let Some(named) = &query.source.named else { continue };
            let id = ProviderId::of(named, &query.namespace);
            let namespace = id.namespace.as_deref();
            asked_at = world.provider_changes(namespace, &id.name).0;
            self.source.learn(&id, world.provider(namespace, &id.name));
        }
        asked_at
    }

    /// A metric without an answer is asked at once when its MetricProvider has changed since.
    fn add_healed(
        &self,
        run: &AnalysisRun,
        secrets: &Secrets,
        asked_at: u64,
        due: &mut Vec<Query>,
        now: Timestamp,
    ) {
        let Some(waited) = without_waiting(run) else { return };
        for query in analysis::plan_with(&waited, secrets, now).due {
            let Some(named) = &query.source.named else { continue };
            let id = ProviderId::of(named, &query.namespace);
            let (_, changed) = self.world().provider_changes(id.namespace.as_deref(), &id.name);
            if changed > asked_at && due.iter().all(|other| other.metric != query.metric) {
                due.push(query);
            }
        }
    }

    async fn write_run(&self, run: &AnalysisRun) -> Result<Value, ApplyError> {
        let at = format!("{}/status", path_of(run));
        let mut object = run.clone();
        object.metadata.managed_fields = None;
        let body = serde_json::to_value(&object)
            .map_err(|source| ApplyError::Encoding { what: format!("PUT {at}"), source })?;
        Http::put(at, body).send(self.client()).await
    }

    /// A run whose time to live is over is deleted, unless its release may still go on with it.
    async fn expire(&self, key: &Key, run: &AnalysisRun, memory: Memory, outcome: &mut Outcome) {
        let now = self.clock.now();
        if self.world().is_needed(run) {
            outcome.wake = now.saturating_add(NEEDED).ok();
        } else if let Err(error) = self.delete_run(run).await {
            self.failed(key, memory, error, now, outcome);
        }
    }

    /// The watch says when it is gone.
    async fn delete_run(&self, run: &AnalysisRun) -> Result<(), ApplyError> {
        let body = serde_json::json!({"propagationPolicy": "Background",
            "preconditions": {"uid": run.metadata.uid}});
        Http::delete(path_of(run), body).send(self.client()).await.map(|_| ())
    }
}

fn is_over(run: &AnalysisRun) -> bool {
    run.status.as_ref().is_some_and(|status| status.completed_at.is_some())
}

fn path_of(run: &AnalysisRun) -> String {
    let namespace = run.metadata.namespace.as_deref().unwrap_or_default();
    let name = run.metadata.name.as_deref().unwrap_or_default();
    format!("/apis/sluice.dev/v1beta1/namespaces/{namespace}/analysisruns/{name}")
}

/// The run as if the pause after each error were over; nothing where no metric ends with one.
fn without_waiting(run: &AnalysisRun) -> Option<AnalysisRun> {
    let named = |metric: &crate::api::Metric| {
        metric.provider.as_ref().is_some_and(|provider| provider.ref_.is_some())
    };
    if !run.spec.metrics.iter().any(named) {
        return None;
    }
    let mut run = run.clone();
    let mut found = false;
    for result in &mut run.status.as_mut()?.metric_results {
        let last = result.measurements.last_mut();
        let waits = |last: &&mut crate::api::Measurement| {
            let lost = last.finished_at.is_none() && last.message.is_some();
            lost || last.phase == Some(AnalysisPhase::Error)
        };
        if let Some(last) = last.filter(waits) {
            last.finished_at = last.finished_at.take().map(|_| crate::api::Time(Timestamp::MIN));
            last.resume_at = None;
            found = true;
        }
    }
    found.then_some(run)
}
