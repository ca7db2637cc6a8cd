//! Alertmanager's webhook and Prometheus' own list: which releases firing alerts stop, and what is asked
//! of them.
//!
//! Only a release that goes on is stopped, its watch after the last step included. An alert pauses or
//! isolates a release once: what was approved or tried again is not stopped by its repetitions, but by the
//! next time that it fires. Resolved alerts start nothing again: a person does.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::api::rollout::OnFailure;
use crate::api::status::{Request, RequestVerb, Stage};
use crate::api::{Rollout, RolloutStatus};

/// The notice as Alertmanager documents it, version 4.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Notice {
    /// The form of the notice.
    pub version: String,
    /// The alerts of a group.
    #[serde(default)]
    pub alerts: Vec<Alert>,
}

/// One alert.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// `firing`, `resolved` or, of Prometheus, `pending`.
    #[serde(alias = "state")]
    pub status: String,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Since when it fires.
    #[serde(default, alias = "activeAt")]
    pub starts_at: String,
    /// Alertmanager's name for its labels; Prometheus has none.
    #[serde(default)]
    pub fingerprint: Option<String>,
}

/// Why a notice cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum NoticeError {
    /// Not the documented JSON.
    #[error("not Alertmanager's JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Another form.
    #[error("version {0:?} of the webhook is not known: it is \"4\" since Alertmanager 0.6")]
    Version(String),
    /// What answers is no Prometheus.
    #[error("not the answer of Prometheus' /api/v1/alerts: {0}")]
    Prometheus(String),
}

/// Reads a notice of Alertmanager.
///
/// # Errors
/// It is not what Alertmanager documents.
pub fn read(body: &[u8]) -> Result<Notice, NoticeError> {
    let notice: Notice = serde_json::from_slice(body)?;
    match notice.version.as_str() {
        "4" => Ok(notice),
        _ => Err(NoticeError::Version(notice.version)),
    }
}

/// Reads the answer of Prometheus' `/api/v1/alerts` as a notice.
///
/// # Errors
/// It is not what Prometheus documents.
pub fn read_prometheus(body: &[u8]) -> Result<Notice, NoticeError> {
    #[derive(Deserialize)]
    struct Answer {
        status: String,
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        alerts: Vec<Alert>,
    }
    let wrong = |why: String| NoticeError::Prometheus(why);
    let answer: Answer = serde_json::from_slice(body).map_err(|e| wrong(e.to_string()))?;
    if answer.status != "success" {
        return Err(wrong(format!("its status is {:?}", answer.status)));
    }
    Ok(Notice { version: "4".to_owned(), alerts: answer.data.alerts })
}

impl Alert {
    /// What tells this alert, as it fires now and asks for `verb`, from every other.
    fn identity(&self, verb: RequestVerb) -> String {
        let labels = || {
            let text: String = self.labels.iter().map(|(k, v)| format!("{k}={v}\n")).collect();
            Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
        };
        let name: String = self.fingerprint.clone().unwrap_or_else(labels);
        // One that has only paused may still isolate, when its rule says so by now.
        let how = if verb == RequestVerb::Isolate { "isolate:" } else { "" };
        format!("{how}{name}@{}", self.starts_at)
    }
}

/// What the firing alerts of `notice` ask of a Rollout: the gravest of what its rules say.
#[must_use]
pub fn request(rollout: &Rollout, notice: &Notice) -> Option<Request> {
    let status = rollout.status.as_ref()?;
    let goes_on = |stage| matches!(stage, Stage::Stepping | Stage::Finalising);
    let release = status.release.as_ref().filter(|release| goes_on(release.stage))?;
    let mut found: Option<(RequestVerb, &Alert)> = None;
    let mut alerts = Vec::new();
    for alert in notice.alerts.iter().filter(|alert| alert.status == "firing") {
        let Some(verb) = verb_of(rollout, alert) else { continue };
        if verb != RequestVerb::Abort {
            let identity = alert.identity(verb);
            if release.alerts.contains(&identity) {
                continue;
            }
            alerts.push(identity);
        }
        if found.is_none_or(|(held, _)| gravity(held) < gravity(verb)) {
            found = Some((verb, alert));
        }
    }
    let (verb, alert) = found?;
    if waits_for(status, verb) {
        return None;
    }
    if verb == RequestVerb::Abort {
        alerts.clear();
    }
    Some(Request { verb, by: Some(words(alert)), release: Some(release.id.clone()), alerts })
}

/// The gravest of what the rules say of an alert with these labels.
fn verb_of(rollout: &Rollout, alert: &Alert) -> Option<RequestVerb> {
    let all = |(name, value): (&String, &String)| alert.labels.get(name) == Some(value);
    let matching = rollout.spec.alerts.iter().filter(|rule| {
        // Without labels every alert of the cluster would stop the release.
        !rule.match_labels.is_empty() && rule.match_labels.iter().all(all)
    });
    let verbs = matching.map(|rule| match rule.action.unwrap_or_default() {
        OnFailure::Pause => RequestVerb::Pause,
        OnFailure::Isolate => RequestVerb::Isolate,
        OnFailure::Rollback => RequestVerb::Abort,
    });
    verbs.max_by_key(|verb| gravity(*verb))
}

/// What takes the place of what: going back, taking the traffic away, staying.
fn gravity(verb: RequestVerb) -> u8 {
    match verb {
        RequestVerb::Abort => 3,
        RequestVerb::Isolate => 2,
        RequestVerb::Pause => 1,
        _ => 0,
    }
}

/// The same, or something graver, is asked for already.
fn waits_for(status: &RolloutStatus, verb: RequestVerb) -> bool {
    status.request.as_ref().is_some_and(|request| gravity(request.verb) >= gravity(verb))
}

/// `the alert HighErrors (severity=page): 12% of requests fail`.
fn words(alert: &Alert) -> String {
    let name = alert.labels.get("alertname").map_or("without a name", String::as_str);
    let severity = alert.labels.get("severity").map(|s| format!(" (severity={s})"));
    let said = ["summary", "description", "message"].iter().find_map(|n| alert.annotations.get(*n));
    let said = said.map(|text| format!(": {}", text.chars().take(200).collect::<String>()));
    format!("the alert {name}{}{}", severity.unwrap_or_default(), said.unwrap_or_default())
}
