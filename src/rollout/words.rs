//! A plan in words, for `sluice plan`.

use serde_json::Value;

use super::types::Action;
use crate::workload::{KnobPatch, Write};

/// What an action does, in one line.
#[must_use]
pub fn describe_action(action: &Action) -> String {
    let name = |object: &Value| {
        object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    match action {
        Action::Status => "write the Rollout's status".into(),
        Action::Gate { workload, entry: Some(entry) } => match &entry.release {
            Some(release) => format!("gate {workload} and hold it for release {release}"),
            None => format!("gate {workload}"),
        },
        Action::Gate { workload, entry: None } => format!("let {workload} out of the Gate"),
        Action::LetGo { workload, left: Some(_) } => {
            format!("note the user's maxSurge of {workload}")
        }
        Action::LetGo { workload, left: None } => format!("forget the note on {workload}"),
        Action::Finalizer(true) => "add the finalizer to the Rollout".into(),
        Action::Finalizer(false) => "take the finalizer off the Rollout".into(),
        Action::Workload { name, write, .. } => match write {
            Write::Deployment(patch) => format!("patch Deployment {name}: {}", patch_words(patch)),
            Write::Scale { replica_set, from, to, .. } => {
                format!("scale ReplicaSet {replica_set} from {from} to {to}")
            }
            Write::MinReady { replica_set, seconds, .. } => {
                format!("set minReadySeconds of ReplicaSet {replica_set} to {seconds}")
            }
        },
        Action::Disown { kind, name, .. } => {
            format!("drop our managedFields entry of {kind:?} {name}")
        }
        Action::CreateService(object) => format!("create Service {}", name(object)),
        Action::PutService(object) => format!("change the selector of Service {}", name(object)),
        Action::DeleteService { name, .. } => format!("delete Service {name}"),
        Action::PutRoute(object) => {
            let kind = object.get("kind").and_then(Value::as_str).unwrap_or("HTTPRoute");
            format!("edit {kind} {}", name(object))
        }
        Action::StartRun(run) => {
            format!("start AnalysisRun {}", run.metadata.name.as_deref().unwrap_or_default())
        }
        Action::EndRun { name, .. } => format!("end AnalysisRun {name}"),
        Action::Prove { workload, .. } => format!("prove by a dry run that {workload} is held"),
        Action::Event(note) => format!("event {}: {}", note.reason, note.note),
    }
}

fn patch_words(patch: &KnobPatch) -> String {
    let mut parts = Vec::new();
    if let Some(paused) = patch.paused {
        parts.push(format!("paused {paused}"));
    }
    if let Some(surge) = &patch.max_surge {
        parts.push(format!("maxSurge {surge:?}"));
    }
    if let Some(unavailable) = &patch.max_unavailable {
        parts.push(format!("maxUnavailable {unavailable:?}"));
    }
    if patch.min_ready_seconds.is_some() {
        parts.push("minReadySeconds".into());
    }
    if patch.template.is_some() {
        parts.push("template".into());
    }
    format!("{} ({})", patch.why, parts.join(", "))
}
