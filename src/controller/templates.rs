//! One reconcile of an analysis template: what `sluice lint` would say of it becomes its condition
//! `Accepted`, in the same words.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::engine::{Engine, Memory, Outcome};
use crate::analysis::{Severity, look_at_template};
use crate::api::Time;
use crate::api::analysis::TemplateStatus;
use crate::api::common::Condition;
use crate::apply::{ApplyError, Class, Http};
use crate::observe::{Key, Kind, TemplateView};

/// The one condition of a template.
const ACCEPTED: &str = "Accepted";
/// The API server refuses messages beyond 32 kB.
const LONGEST: usize = 30_000;

impl Engine {
    pub(super) async fn template(&self, key: &Key, namespace: &str, name: &str) -> Outcome {
        let mut outcome = Outcome::default();
        let now = self.clock.now();
        let view = self.world().template(namespace, name);
        let Some(view) = view else {
            self.forget(key);
            return outcome;
        };
        let Some(status) = news(&view, now) else { return outcome };
        match self.write_template(namespace, name, &view, &status).await {
            Ok(object) => {
                self.remember(key, Memory::default());
                let cluster = namespace.is_empty();
                let kind =
                    if cluster { Kind::ClusterAnalysisTemplate } else { Kind::AnalysisTemplate };
                outcome.touched = self.see(kind, &object);
                outcome.touched.retain(|k| k != key);
            }
            // It is gone, or its definition is older than we are: nothing of a release rests on it.
            Err(error) if error.class() == Class::Missing => {
                tracing::info!(namespace, name, "a template's condition was not written");
            }
            Err(error) => self.failed(key, self.memory(key), error, now, &mut outcome),
        }
        outcome
    }

    async fn write_template(
        &self,
        namespace: &str,
        name: &str,
        view: &TemplateView,
        status: &TemplateStatus,
    ) -> Result<Value, ApplyError> {
        let at = match namespace {
            "" => format!("clusteranalysistemplates/{name}"),
            namespace => format!("namespaces/{namespace}/analysistemplates/{name}"),
        };
        let metadata =
            json!({"uid": view.head.uid, "resourceVersion": view.head.version.to_string()});
        let body = json!({"metadata": metadata, "status": status});
        Http::merge(format!("/apis/sluice.dev/v1beta1/{at}/status"), body).send(self.client()).await
    }
}

/// The status that a template should have, unless it has it.
fn news(view: &TemplateView, now: Timestamp) -> Option<TemplateStatus> {
    let findings = look_at_template(&view.key, &view.spec, &view.named);
    let wrong = findings.iter().any(|finding| finding.severity == Severity::Error);
    let (status, reason) = match (wrong, findings.is_empty()) {
        (true, _) => ("False", "Errors"),
        (false, false) => ("True", "Warnings"),
        (false, true) => ("True", "Clean"),
    };
    let lines: Vec<String> = findings.iter().map(|finding| finding.sentence()).collect();
    let message = lines.join("\n").chars().take(LONGEST).collect();
    let known = view.head.status.conditions.iter().find(|known| known.type_ == ACCEPTED);
    let since = known.filter(|known| known.status == status);
    let condition = Condition {
        type_: ACCEPTED.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: since.map_or(Time(now), |known| known.last_transition_time.clone()),
        observed_generation: Some(view.head.generation),
    };
    if known == Some(&condition) {
        return None;
    }
    let others = view.head.status.conditions.iter().filter(|other| other.type_ != ACCEPTED);
    let conditions = std::iter::once(condition).chain(others.cloned()).collect();
    Some(TemplateStatus { conditions })
}
