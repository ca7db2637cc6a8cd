//! A call of a hook as plain data: what is sent, and what came back.

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{Draft, EventNote, steps};
use crate::api::common::SecretKeyRef;
use crate::api::rollout::HookPoint;
use crate::api::status::{HookStatus, Stage};
use crate::spec::HookPlan;

/// Verdicts that a body repeats, and characters of each one's words: a body stays below 64 KiB.
const VERDICTS: (usize, usize) = (16, 300);

/// One call, fully decided. Its attempt is in the status before it is made.
#[derive(Clone, Debug, PartialEq)]
pub struct HookCall {
    /// Identity of the decision, the same over repeated calls; of an event, its own.
    pub id: String,
    /// Which call of the decision, from 1.
    pub number: i32,
    /// The hook.
    pub name: String,
    /// Its moment.
    pub at: HookPoint,
    /// Where to.
    pub url: String,
    /// How long it may take.
    pub timeout: SignedDuration,
    /// What is sent.
    pub body: Value,
    /// The bearer token.
    pub bearer: Option<SecretKeyRef>,
    /// The key of the signature.
    pub signature: Option<SecretKeyRef>,
    /// The certificate authority.
    pub ca: Option<SecretKeyRef>,
}

/// What a hook answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookAnswer {
    /// It agrees.
    Ok {
        /// Its words.
        message: String,
    },
    /// It asks to be asked again.
    Processing {
        /// Its words.
        message: String,
        /// How soon, when it says so.
        again: Option<SignedDuration>,
    },
    /// It refuses, or could not be asked.
    Error {
        /// Why.
        message: String,
    },
}

/// What this process knows of a call. A call that no process knows of was cut off by a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookSeen {
    /// Which call of the decision.
    pub number: i32,
    /// What came of it.
    pub state: HookCalled,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookCalled {
    /// It was decided and surely not made.
    Unsent,
    /// It is being made.
    UnderWay,
    /// It was answered.
    Answered(HookAnswer),
}

/// The call of a decision that is in the status.
pub(super) fn of_decision(d: &Draft<'_>, hook: &HookPlan, entry: &HookStatus) -> HookCall {
    let mut body = facts(d, hook);
    let more = json!({"id": entry.id, "call": entry.calls, "release": entry.release});
    merge(&mut body, more);
    if let Some(step) = entry.step {
        merge(&mut body, json!({"step": step_of(d, step)}));
    }
    call(hook, entry.id.clone(), entry.calls, body)
}

/// The call that tells an event, as Flagger does. Nobody waits for it.
pub(super) fn of_event(d: &Draft<'_>, hook: &HookPlan, note: &EventNote, place: usize) -> HookCall {
    let id = format!("event-{}-{}-{place}", hook.name, d.now.as_millisecond());
    let kind = if note.warning { "Warning" } else { "Normal" };
    let mut body = facts(d, hook);
    let release = d.status.release.as_ref().map(|r| &r.id);
    let event = json!({"type": kind, "reason": note.reason, "note": note.note});
    merge(&mut body, json!({"id": id, "call": 1, "release": release, "event": event}));
    if let Some(metadata) = body.get_mut("metadata") {
        let said = json!({"eventMessage": note.note, "eventType": kind,
            "timestamp": d.now.as_millisecond().to_string()});
        merge(metadata, said);
    }
    call(hook, id, 1, body)
}

fn call(hook: &HookPlan, id: String, number: i32, body: Value) -> HookCall {
    HookCall {
        id,
        number,
        name: hook.name.clone(),
        at: hook.at,
        url: hook.url.clone(),
        timeout: hook.timeout,
        body,
        bearer: hook.bearer.clone(),
        signature: hook.signature.clone(),
        ca: hook.ca.clone(),
    }
}

/// What every call says. `name`, `namespace`, `phase`, `checksum` and `metadata` are Flagger's.
fn facts(d: &Draft<'_>, hook: &HookPlan) -> Value {
    let release = d.status.release.clone();
    let last = d.status.last_release.clone().filter(|_| release.is_none());
    let decision = last.as_ref().map(|l| l.decision.as_str());
    let view = d.s.workload.as_ref();
    let phase = match (&release, decision) {
        (Some(release), _) if release.stage == Stage::RollingBack => "Failed",
        (Some(_), _) => "Progressing",
        (None, Some("Promoted")) => "Succeeded",
        (None, _) => "Failed",
    };
    let (most, longest) = VERDICTS;
    let verdicts: Vec<Value> = d
        .status
        .verdicts
        .iter()
        .rev()
        .take(most)
        .map(|v| {
            let words: Option<String> =
                v.message.as_ref().map(|m| m.chars().take(longest).collect());
            json!({"scope": v.scope, "run": v.run, "phase": v.phase, "message": words})
        })
        .collect();
    let workload = &d.s.rollout.spec.workload_ref;
    json!({
        "apiVersion": "sluice.dev/v1beta1",
        "kind": "HookReview",
        "name": d.s.name(),
        "namespace": d.s.namespace(),
        "phase": phase,
        "checksum": view.map(|v| &v.template_hash),
        "metadata": hook.metadata,
        "hook": hook.name,
        "at": hook.at,
        "workload": {"kind": workload.kind, "name": workload.name},
        "revision": {
            "stable": release.as_ref().map(|r| &r.stable),
            "canary": view.and_then(|v| v.current()).map(|rs| &rs.hash),
        },
        "weight": {
            "desired": d.status.traffic.as_ref().and_then(|t| t.desired.clone()),
            "observed": d.status.traffic.as_ref().and_then(|t| t.observed.clone()),
        },
        "batch": {
            "pods": view.and_then(|v| v.current()).map_or(0, |rs| rs.replicas),
            "ready": view.and_then(|v| v.current()).map_or(0, |rs| rs.ready()),
            "replicas": view.map_or(0, |v| v.replicas),
        },
        "verdicts": verdicts,
        "decision": decision,
        "reason": release.and_then(|r| r.cause).or(last.and_then(|l| l.reason)),
    })
}

/// The step as it is written, counted from 1, with the pods that it wants.
fn step_of(d: &Draft<'_>, number: i32) -> Value {
    let plan = d.parsed_spec();
    let steps = plan.as_ref().map_or(&[][..], |plan| plan.steps.as_slice());
    let step = usize::try_from(number - 1).ok().and_then(|i| steps.get(i));
    let replicas = d.s.workload.as_ref().map_or(0, |v| v.replicas);
    json!({
        "index": number,
        "of": steps.len(),
        "name": step.and_then(|s| s.name.clone()),
        "pods": step.map(|s| steps::aim_of(s, replicas)),
        "traffic": step.and_then(|s| s.raw.traffic.clone()),
    })
}

fn merge(into: &mut Value, more: Value) {
    if let (Some(into), Value::Object(more)) = (into.as_object_mut(), more) {
        into.extend(more);
    }
}
