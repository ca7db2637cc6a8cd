//! What a reconcile adds to our own metrics.

use super::engine::Outcome;
use crate::observe::Key;
use crate::rollout::Action;
use crate::telemetry::Metrics;

impl Metrics {
    /// Counts one reconcile: its result, its writes, its events.
    pub fn count(&self, key: &Key, outcome: &Outcome) {
        let kind = match key {
            Key::Rollout { .. } => "Rollout",
            Key::Run { .. } => "AnalysisRun",
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
                self.events.with_label_values(&[note.reason]).inc();
            }
        }
    }
}

fn name_of(action: &Action) -> &'static str {
    match action {
        Action::Status => "status",
        Action::Gate { .. } => "gate",
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
