//! What a reconcile adds to our own metrics, and what an AnalysisRun says of itself in Events.

use std::collections::{BTreeMap, BTreeSet};

use super::engine::Outcome;
use super::hooks::Called;
use super::pending::Answered;
use crate::analysis::{self, ErrorKind};
use crate::api::common::Condition;
use crate::api::status::{Phase, RolloutStatus};
use crate::api::{AnalysisPhase, AnalysisRun, AnalysisRunStatus, MetricResult};
use crate::observe::Key;
use crate::rollout::{Action, EventNote};
use crate::telemetry::{Metrics, Reading, RunName};

/// What came of an AnalysisRun in one reconcile.
#[derive(Debug)]
pub struct Ran {
    name: RunName,
    /// It exists.
    exists: bool,
    over: bool,
    readings: Vec<Reading>,
    measured: BTreeMap<&'static str, u64>,
    errors: Vec<ErrorKind>,
    /// Provider and seconds of each answer.
    took: Vec<(&'static str, f64)>,
    /// What ended, for the run's Events: Argo's reasons.
    pub(super) events: Vec<EventNote>,
}

impl Ran {
    /// A run that was deleted.
    pub(super) fn gone(namespace: &str, run: &str) -> Self {
        let (namespace, run) = (namespace.to_owned(), run.to_owned());
        Self {
            name: RunName { namespace, rollout: String::new(), run },
            exists: false,
            over: true,
            readings: Vec::new(),
            measured: BTreeMap::new(),
            errors: Vec::new(),
            took: Vec::new(),
            events: Vec::new(),
        }
    }

    /// What the answers that have come made of a run whose status was `before`.
    pub(super) fn of(
        run: &AnalysisRun,
        before: Option<&AnalysisRunStatus>,
        come: &[Answered],
    ) -> Self {
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        let metadata = &run.metadata;
        let mut ran = Self::gone(&text(&metadata.namespace), &text(&metadata.name));
        ran.exists = true;
        if let Some(release) = &run.spec.release {
            ran.name.rollout.clone_from(&release.rollout);
        }
        for Answered { outcomes, provider, took, .. } in come {
            ran.took.push((*provider, took.as_secs_f64()));
            ran.errors.extend(outcomes.iter().filter_map(|(_, outcome)| match outcome {
                analysis::Outcome::Error(error) => Some(error.kind),
                _ => None,
            }));
        }
        let Some(status) = &run.status else { return ran };
        let unusable = unusable(come);
        ran.over = status.completed_at.is_some();
        for result in &status.metric_results {
            let known =
                before.and_then(|b| b.metric_results.iter().find(|r| r.name == result.name));
            ran.readings.push(reading(result));
            ran.count(result, known);
            if unusable.contains(result.name.as_str()) {
                ran.events.extend(unanswered(result, known));
            }
            ran.events.extend(ended(result, known));
        }
        ran.events.extend(run_ended(status, before));
        ran
    }

    /// The measurements that are new, by their phase.
    fn count(&mut self, now: &MetricResult, before: Option<&MetricResult>) {
        let of = |pick: fn(&MetricResult) -> i32| {
            u64::try_from(pick(now) - before.map_or(0, pick)).unwrap_or(0)
        };
        let new = [
            ("Successful", of(|r| r.successful)),
            ("Failed", of(|r| r.failed)),
            ("Inconclusive", of(|r| r.inconclusive)),
            ("Error", of(|r| r.error)),
        ];
        for (phase, count) in new.into_iter().filter(|(_, count)| *count > 0) {
            *self.measured.entry(phase).or_default() += count;
        }
    }
}

fn reading(result: &MetricResult) -> Reading {
    let number = |text: &String| text.trim_matches(['[', ']']).parse().ok();
    let last = result.measurements.last().and_then(|last| last.value.as_ref());
    let ratio = result.evidence.as_ref().and_then(|evidence| evidence.ratio);
    Reading {
        metric: result.name.clone(),
        phase: format!("{:?}", result.phase.unwrap_or_default()),
        value: last.and_then(number).or(ratio),
    }
}

fn is_end(phase: Option<AnalysisPhase>) -> bool {
    !matches!(phase, None | Some(AnalysisPhase::Pending | AnalysisPhase::Running))
}

/// Metrics that nobody can be asked for until a person does something: settings or a permission are missing.
fn unusable(come: &[Answered]) -> BTreeSet<&str> {
    let of_person = |outcome: &analysis::Outcome| match outcome {
        analysis::Outcome::Error(error) => error.kind == ErrorKind::Misconfigured,
        _ => false,
    };
    let all = come.iter().flat_map(|answered| &answered.outcomes);
    let metric = |question: &'_ String| question.find('/').unwrap_or(question.len());
    all.filter(|(_, outcome)| of_person(outcome))
        .filter_map(|(question, _)| question.get(..metric(question)))
        .collect()
}

/// The Event of a metric that waits for a person, once for each reason.
fn unanswered(now: &MetricResult, before: Option<&MetricResult>) -> Option<EventNote> {
    let why = |result: &MetricResult| result.measurements.last()?.message.clone();
    let text = why(now)?;
    if before.and_then(why).as_ref() == Some(&text) {
        return None;
    }
    let note = format!("Metric '{}' cannot be asked: {text}", now.name);
    Some(EventNote { warning: true, reason: "MetricUnusable", note })
}

/// The Event of a metric that ended just now.
fn ended(now: &MetricResult, before: Option<&MetricResult>) -> Option<EventNote> {
    if before.is_some_and(|before| is_end(before.phase)) {
        return None;
    }
    let (phase, reason) = match now.phase? {
        AnalysisPhase::Pending | AnalysisPhase::Running => return None,
        AnalysisPhase::Successful => ("Successful", "MetricSuccessful"),
        AnalysisPhase::Failed => ("Failed", "MetricFailed"),
        AnalysisPhase::Error => ("Error", "MetricError"),
        AnalysisPhase::Inconclusive => ("Inconclusive", "MetricInconclusive"),
    };
    let why = now.message.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
    let note = format!("Metric '{}' Completed. Result: {phase}{why}", now.name);
    Some(EventNote { warning: phase != "Successful", reason, note })
}

/// The Event of a run that ended just now.
fn run_ended(now: &AnalysisRunStatus, before: Option<&AnalysisRunStatus>) -> Option<EventNote> {
    if before.is_some_and(|before| is_end(before.phase)) {
        return None;
    }
    let (phase, reason) = match now.phase? {
        AnalysisPhase::Pending | AnalysisPhase::Running => return None,
        AnalysisPhase::Successful => ("Successful", "AnalysisRunSuccessful"),
        AnalysisPhase::Failed => ("Failed", "AnalysisRunFailed"),
        AnalysisPhase::Error => ("Error", "AnalysisRunError"),
        AnalysisPhase::Inconclusive => ("Inconclusive", "AnalysisRunInconclusive"),
    };
    let why = now.message.as_ref().or(now.reason.as_ref());
    let why = why.map(|text| format!(": {text}")).unwrap_or_default();
    let note = format!("Analysis Completed. Result: {phase}{why}");
    Some(EventNote { warning: phase != "Successful", reason, note })
}

impl Metrics {
    /// Counts one reconcile: its result, its writes, its events, what it measured.
    pub fn count(&self, key: &Key, outcome: &Outcome) {
        let (kind, namespace) = match key {
            Key::Rollout { namespace, .. } => ("Rollout", namespace.as_str()),
            Key::Run { namespace, .. } => ("AnalysisRun", namespace.as_str()),
            Key::Hook { namespace, .. } => ("Hook", namespace.as_str()),
            Key::Template { namespace, .. } => ("AnalysisTemplate", namespace.as_str()),
            Key::Calibration { namespace, .. } => ("Calibration", namespace.as_str()),
        };
        let result = match &outcome.error {
            None => "ok".to_owned(),
            Some(error) => format!("{:?}", error.class()).to_lowercase(),
        };
        self.reconciles.with_label_values(&[kind, &result]).inc();
        for violation in &outcome.violations {
            self.violations.with_label_values(&[violation.name]).inc();
        }
        let done = outcome.plan.iter().filter(|_| outcome.error.is_none());
        for action in done.flat_map(|plan| &plan.actions) {
            self.writes.with_label_values(&[name_of(action)]).inc();
            if let Action::Event(note) = action {
                self.events.with_label_values(&[namespace, note.reason]).inc();
            }
        }
        if let Key::Rollout { namespace, name } = key {
            let labels = [namespace.as_str(), name.as_str()];
            if outcome.plan.as_ref().is_some_and(|plan| is_stalled(&plan.status)) {
                self.stalled.with_label_values(&labels).set(1);
            } else {
                let _absent = self.stalled.remove_label_values(&labels);
            }
        }
        if let Some(ran) = &outcome.ran {
            self.count_run(ran, outcome.error.is_none());
        }
        if let Some(Called { namespace, at, answer, took }) = &outcome.called {
            let at = format!("{at:?}");
            self.hook_calls.with_label_values(&[namespace, at.as_str(), answer]).inc();
            self.hook_seconds.with_label_values(&[&at]).observe(took.as_secs_f64());
        }
    }

    /// What was measured is counted once it is written: else it is measured again.
    fn count_run(&self, ran: &Ran, written: bool) {
        let Ran { name, exists, over, readings, measured, errors, took, events } = ran;
        if !exists {
            return self.analysis.forget(&name.namespace, &name.run);
        }
        let namespace = name.namespace.as_str();
        for (provider, seconds) in took {
            self.analysis.seconds.with_label_values(&[provider]).observe(*seconds);
        }
        for kind in errors {
            let kind = format!("{kind:?}");
            self.analysis.errors.with_label_values(&[namespace, &kind]).inc();
        }
        if !written {
            return;
        }
        self.analysis.show(name, readings, *over);
        for (phase, count) in measured {
            self.analysis.measurements.with_label_values(&[namespace, phase]).inc_by(*count);
        }
        for note in events {
            self.events.with_label_values(&[namespace, note.reason]).inc();
        }
    }
}

/// Whether a person must act for a release to go on. One that went back is over: what comes next is another
/// template, and nobody need hurry.
fn is_stalled(status: &RolloutStatus) -> bool {
    let stalled = |c: &Condition| c.type_ == "Stalled" && c.status == "True";
    let over = status.release.is_none() && status.phase == Some(Phase::Failed);
    !over && status.conditions.iter().any(stalled)
}

fn name_of(action: &Action) -> &'static str {
    match action {
        Action::Status => "status",
        Action::Gate { .. } | Action::LetGo { .. } => "gate",
        Action::Finalizer(_) => "finalizer",
        Action::Workload { .. } => "workload",
        Action::Disown { .. } => "disown",
        Action::CreateService(_) | Action::PutService(_) | Action::DeleteService { .. } => {
            "service"
        }
        Action::PutRoute(_) => "route",
        Action::StartRun(_) | Action::EndRun { .. } => "analysisrun",
        Action::Prove { .. } => "proof",
        Action::Event(_) => "event",
    }
}
