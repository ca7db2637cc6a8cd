//! Events of our own making: the library's recorder merges events by reason and keeps the first note, so a
//! second step would be shown as the first.

use futures::future::join_all;
use jiff::Timestamp;
use kube::core::ObjectMeta;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::request::{Http, path};
use crate::api::{AnalysisRun, Rollout};
use crate::rollout::EventNote;

/// The object that an Event is about.
#[derive(Clone, Copy, Debug)]
pub struct Regarding<'a> {
    kind: &'static str,
    meta: &'a ObjectMeta,
}

impl<'a> Regarding<'a> {
    /// A Rollout.
    #[must_use]
    pub fn rollout(rollout: &'a Rollout) -> Self {
        Self { kind: "Rollout", meta: &rollout.metadata }
    }

    /// An AnalysisRun.
    #[must_use]
    pub fn run(run: &'a AnalysisRun) -> Self {
        Self { kind: "AnalysisRun", meta: &run.metadata }
    }
}

/// Writes Events, all at the same time. One that cannot be written must not stop a release. `instance` is
/// the process that writes.
pub async fn tell(
    client: &kube::Client,
    about: &Regarding<'_>,
    instance: &str,
    now: Timestamp,
    notes: impl IntoIterator<Item = &EventNote>,
) {
    let told = notes.into_iter().map(|note| async move {
        if let Err(error) = event(about, instance, now, note).send(client).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "event not written");
        }
    });
    join_all(told).await;
}

fn event(about: &Regarding<'_>, instance: &str, now: Timestamp, note: &EventNote) -> Http {
    let Regarding { kind, meta } = about;
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let name = meta.name.as_deref().unwrap_or_default();
    let uid = meta.uid.as_deref().unwrap_or_default();
    let seed = format!("{uid}{}{}{now}", note.reason, note.note);
    let digest = Sha256::digest(seed.as_bytes());
    let hex = digest.iter().take(8).fold(String::new(), |s, b| s + &format!("{b:02x}"));
    let mut text = note.note.clone();
    // The API server refuses notes of more than 1 kB.
    while text.len() > 1_000 {
        text.pop();
    }
    let body = json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": format!("{name}.{hex}"), "namespace": namespace},
        "eventTime": format!("{now:.6}"),
        "reportingController": "sluice.dev/controller",
        "reportingInstance": instance,
        "action": note.reason,
        "reason": note.reason,
        "note": text,
        "type": if note.warning { "Warning" } else { "Normal" },
        "regarding": {
            "apiVersion": "sluice.dev/v1beta1",
            "kind": kind,
            "namespace": namespace,
            "name": name,
            "uid": uid,
        },
    });
    Http::post(path("events.k8s.io/v1", namespace, "events", ""), body)
}
