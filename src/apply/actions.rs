//! A plan, action by action, in order; the first failure ends it and the next plan starts from facts.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::Writer;
use super::error::ApplyError;
use super::events::{Regarding, tell};
use super::prove::prove;
use super::request::{Http, path};
use crate::api::{FINALIZER, GATE_NAME, GateEntry, LetGo, Rollout, WANTED_ANNOTATION};
use crate::observe::{Kind, Version};
use crate::rollout::{Action, Disowned, Plan, Proof};
use crate::workload::{KnobPatch, Write};

const OURS: &str = "sluice.dev/v1beta1";
const APPS: &str = "apps/v1";
const ROUTES: &str = "gateway.networking.k8s.io/v1";

/// The Rollout that a plan belongs to, and who carries it out.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// The Rollout as it was planned on.
    pub rollout: &'a Rollout,
    /// The user name the API server knows us by.
    pub account: &'a str,
    /// Which process writes, for events.
    pub instance: &'a str,
    /// The time, for events.
    pub now: Timestamp,
    /// The namespace's Gate as it was planned on.
    pub gate: Option<Version>,
}

/// What every write to one of the two carries: as it was planned on, and then as our own writes left it.
struct Known {
    rollout: String,
    gate: Option<Version>,
}

/// What a write brought back: an object to take into the world, a deletion, or a proof.
#[derive(Clone, Debug)]
pub enum Seen {
    /// An object as it is now.
    Object(Kind, Value),
    /// What a dry run said of a workload's gate.
    Proof(String, Proof),
}

/// Carries a plan out. Every answer is given to `seen` before the next action.
///
/// Events are written when everything else is done, at the same time: pods already move meanwhile. What
/// was announced before a failure has happened, so it is written all the same.
///
/// # Errors
/// The first action that did not happen, or whose answer was lost.
pub async fn run<W: Writer>(
    client: &kube::Client,
    _writer: &W,
    target: &Target<'_>,
    plan: &Plan,
    mut seen: impl FnMut(Seen),
) -> Result<(), ApplyError> {
    let mut known = Known {
        rollout: target.rollout.metadata.resource_version.clone().unwrap_or_default(),
        gate: target.gate.clone(),
    };
    let mut notes = Vec::new();
    let mut done = Ok(());
    for action in &plan.actions {
        if let Action::Event(note) = action {
            notes.push(note);
            continue;
        }
        let brought = match one(client, target, plan, action, &known).await {
            Ok(Some(brought)) => brought,
            Ok(None) => continue,
            Err(error) => {
                done = Err(error);
                break;
            }
        };
        match &brought {
            Seen::Object(Kind::Rollout, object) => {
                known.rollout = Version::of(object).resource_version;
            }
            Seen::Object(Kind::Gate, object) => known.gate = Some(Version::of(object)),
            _ => {}
        }
        seen(brought);
    }
    let about = Regarding::rollout(target.rollout);
    tell(client, &about, target.instance, target.now, notes).await;
    done
}

async fn one(
    client: &kube::Client,
    target: &Target<'_>,
    plan: &Plan,
    action: &Action,
    known: &Known,
) -> Result<Option<Seen>, ApplyError> {
    let meta = &target.rollout.metadata;
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let name = meta.name.as_deref().unwrap_or_default();
    let rollout = path(OURS, namespace, "rollouts", name);
    let (kind, request) = match action {
        Action::Status => {
            let mut object = target.rollout.clone();
            object.metadata.resource_version = Some(known.rollout.clone());
            object.metadata.managed_fields = None;
            object.status = Some(plan.status.clone());
            let body = serde_json::to_value(&object).map_err(|source| ApplyError::Encoding {
                what: format!("PUT {rollout}/status"),
                source,
            })?;
            (Kind::Rollout, Http::put(format!("{rollout}/status"), body))
        }
        Action::Gate { workload, entry } => {
            let Some(entry) = entry else {
                return leave(client, namespace, known.gate.as_ref(), workload, name).await;
            };
            let (patch, whole) = (entry_patch(entry), json!(entry));
            let part = ("deployments", workload.as_str());
            let at = (namespace, known.gate.as_ref());
            return Box::pin(gate(client, target.account, at, part, (patch, whole))).await;
        }
        Action::LetGo { workload, left: None } => {
            return forget(client, namespace, known.gate.as_ref(), workload).await;
        }
        Action::LetGo { workload, left: Some(left) } => {
            let (patch, whole) = (left_patch(left), json!(left));
            let part = ("letGo", workload.as_str());
            let at = (namespace, known.gate.as_ref());
            return Box::pin(gate(client, target.account, at, part, (patch, whole))).await;
        }
        Action::Finalizer(on) => {
            let Some(request) = finalizer(target.rollout, *on, &known.rollout, &rollout) else {
                return Ok(None);
            };
            (Kind::Rollout, request)
        }
        Action::Workload { uid, resource_version, name, write } => {
            workload(namespace, name, uid, resource_version, write)
        }
        Action::Disown { kind, uid, resource_version, name, index } => {
            let (kind, group) = match kind {
                Disowned::Deployment => (Kind::Deployment, APPS),
                Disowned::Service => (Kind::Service, "v1"),
                Disowned::HttpRoute => (Kind::HttpRoute, ROUTES),
                Disowned::GrpcRoute => (Kind::GrpcRoute, ROUTES),
            };
            let entry = format!("/metadata/managedFields/{index}");
            // Where somebody else wrote in between, our entry is at another place, or gone: a failed test is
            // answered with 422. The next look says what is left to do.
            let body = json!([
                {"op": "test", "path": "/metadata/uid", "value": uid},
                {"op": "test", "path": format!("{entry}/manager"), "value": crate::api::FIELD_MANAGER},
                {"op": "replace", "path": "/metadata/resourceVersion", "value": resource_version},
                {"op": "remove", "path": entry},
            ]);
            let at = path(group, namespace, kind.names().3, name);
            let sent = done_if(Http::json_patch(at, body).send(client).await, &[404, 422])?;
            return Ok(sent.map(|object| Seen::Object(kind, object)));
        }
        Action::CreateService(object) => {
            let at = path("v1", namespace, "services", "");
            (Kind::Service, Http::post(at, (**object).clone()))
        }
        Action::PutService(object) => {
            let at = path("v1", namespace, "services", name_of(object));
            (Kind::Service, Http::put(at, (**object).clone()))
        }
        Action::DeleteService { name, uid } => {
            let at = path("v1", namespace, "services", name);
            let sent = Http::delete(at, json!({"preconditions": {"uid": uid}})).send(client).await;
            return done_if(sent, &[404, 409]).map(|_| None);
        }
        Action::PutRoute(object) => {
            let grpc = object.get("kind").is_some_and(|kind| kind == "GRPCRoute");
            let kind = if grpc { Kind::GrpcRoute } else { Kind::HttpRoute };
            let at = path(ROUTES, namespace, kind.names().3, name_of(object));
            (kind, Http::put(at, (**object).clone()))
        }
        Action::StartRun(run) => {
            let at = path(OURS, namespace, "analysisruns", "");
            let body = serde_json::to_value(run)
                .map_err(|source| ApplyError::Encoding { what: format!("POST {at}"), source })?;
            // The name is made from the release, so that a repeat after a crash finds it there.
            let sent = done_if(Http::post(at, body).send(client).await, &[409])?;
            return Ok(sent.map(|object| Seen::Object(Kind::AnalysisRun, object)));
        }
        Action::EndRun { name, uid, resource_version } => {
            let at = path(OURS, namespace, "analysisruns", name);
            let metadata = json!({"uid": uid, "resourceVersion": resource_version});
            let body = json!({"metadata": metadata, "spec": {"terminate": true}});
            let sent = done_if(Http::merge(at, body).send(client).await, &[404])?;
            return Ok(sent.map(|object| Seen::Object(Kind::AnalysisRun, object)));
        }
        Action::Prove { workload, held } => {
            let proof = prove(client, namespace, workload, *held, target.now).await?;
            return Ok(Some(Seen::Proof(workload.clone(), proof)));
        }
        Action::Event(note) => {
            let about = Regarding::rollout(target.rollout);
            tell(client, &about, target.instance, target.now, [note]).await;
            return Ok(None);
        }
    };
    let object = request.send(client).await?;
    Ok(Some(Seen::Object(kind, object)))
}

fn name_of(object: &Value) -> &str {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

/// A refusal with one of these codes means that it is done already.
fn done_if(sent: super::Answer, codes: &[u16]) -> Result<Option<Value>, ApplyError> {
    match sent {
        Ok(object) => Ok(Some(object)),
        Err(e) if e.code().is_some_and(|c| codes.contains(&c)) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Writes one entry of a map of the namespace's Gate, which is made when there is none: the map and the
/// workload, the entry as a merge patch and whole.
async fn gate(
    client: &kube::Client,
    account: &str,
    (namespace, known): (&str, Option<&Version>),
    (map, workload): (&str, &str),
    (patch, whole): (Value, Value),
) -> Result<Option<Seen>, ApplyError> {
    let request = match known {
        Some(version) => {
            let spec = json!({"account": account, map: {workload: patch}});
            let body = json!({"metadata": metadata(version), "spec": spec});
            Http::merge(path(OURS, namespace, "gates", GATE_NAME), body)
        }
        None => {
            let object = json!({
                "apiVersion": OURS,
                "kind": "Gate",
                "metadata": {"name": GATE_NAME, "namespace": namespace},
                "spec": {"account": account, map: {workload: whole}},
            });
            Http::post(path(OURS, namespace, "gates", ""), object)
        }
    };
    Ok(Some(Seen::Object(Kind::Gate, request.send(client).await?)))
}

/// What makes a merge patch fail when it is not the object that was planned on.
fn metadata(version: &Version) -> Value {
    let Version { uid, resource_version } = version;
    json!({"uid": uid, "resourceVersion": resource_version})
}

/// Takes a Rollout's entry out of the Gate. Another Rollout that has the workload now may have written its
/// own in between: that one stays.
async fn leave(
    client: &kube::Client,
    namespace: &str,
    known: Option<&Version>,
    workload: &str,
    rollout: &str,
) -> Result<Option<Seen>, ApplyError> {
    let Some(Version { uid, resource_version }) = known else { return Ok(None) };
    let entry = format!("/spec/deployments/{workload}");
    let body = json!([
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": resource_version},
        {"op": "test", "path": format!("{entry}/rollout"), "value": rollout},
        {"op": "remove", "path": entry},
    ]);
    let at = path(OURS, namespace, "gates", GATE_NAME);
    let sent = done_if(Http::json_patch(at, body).send(client).await, &[404, 422])?;
    Ok(sent.map(|object| Seen::Object(Kind::Gate, object)))
}

/// Takes a note on a workload that was let go out of the Gate.
async fn forget(
    client: &kube::Client,
    namespace: &str,
    known: Option<&Version>,
    workload: &str,
) -> Result<Option<Seen>, ApplyError> {
    let Some(version) = known else { return Ok(None) };
    let at = path(OURS, namespace, "gates", GATE_NAME);
    let body = json!({"metadata": metadata(version), "spec": {"letGo": {workload: null}}});
    let sent = done_if(Http::merge(at, body).send(client).await, &[404])?;
    Ok(sent.map(|object| Seen::Object(Kind::Gate, object)))
}

/// The note as a merge patch: what it does not have is taken away.
fn left_patch(left: &LetGo) -> Value {
    let LetGo { rollout, workload, max_surge, max_unavailable, surge } = left;
    json!({
        "rollout": rollout,
        "workload": workload,
        "maxSurge": max_surge,
        "maxUnavailable": max_unavailable,
        "surge": surge,
    })
}

/// The entry as a merge patch: what it does not have is taken away.
fn entry_patch(entry: &GateEntry) -> Value {
    let keys = ["rollout", "release", "pausedByUser", "minReadySeconds", "originals"];
    let mut out = serde_json::to_value(entry).unwrap_or_default();
    let inner = [
        "minReadySeconds",
        "progressDeadlineSeconds",
        "type",
        "maxSurge",
        "maxUnavailable",
        "paused",
    ];
    if let Some(map) = out.as_object_mut() {
        for key in keys {
            map.entry(key).or_insert(Value::Null);
        }
        if let Some(originals) = map.get_mut("originals").and_then(Value::as_object_mut) {
            for key in inner {
                originals.entry(key).or_insert(Value::Null);
            }
        }
    }
    out
}

fn finalizer(rollout: &Rollout, on: bool, version: &str, at: &str) -> Option<Http> {
    let mut all = rollout.metadata.finalizers.clone().unwrap_or_default();
    let has = all.iter().any(|f| f == FINALIZER);
    if has == on {
        return None;
    }
    if on {
        all.push(FINALIZER.to_owned());
    } else {
        all.retain(|f| f != FINALIZER);
    }
    let finalizers = if all.is_empty() { Value::Null } else { json!(all) };
    let body = json!({"metadata": {
        "uid": rollout.metadata.uid,
        "resourceVersion": version,
        "finalizers": finalizers,
    }});
    Some(Http::merge(at, body))
}

fn workload(namespace: &str, name: &str, uid: &str, version: &str, write: &Write) -> (Kind, Http) {
    match write {
        Write::Deployment(patch) => {
            let at = path(APPS, namespace, "deployments", name);
            (Kind::Deployment, deployment(at, uid, version, patch))
        }
        Write::Scale { replica_set, uid, resource_version, from: _, to, desired, max } => {
            let at = path(APPS, namespace, "replicasets", replica_set);
            let body = json!({
                "metadata": {
                    "uid": uid,
                    "resourceVersion": resource_version,
                    "annotations": {
                        "deployment.kubernetes.io/desired-replicas": desired.to_string(),
                        "deployment.kubernetes.io/max-replicas": max.to_string(),
                    },
                },
                "spec": {"replicas": to},
            });
            (Kind::ReplicaSet, Http::merge(at, body))
        }
        Write::MinReady { replica_set, uid, resource_version, seconds } => {
            let at = path(APPS, namespace, "replicasets", replica_set);
            let body = json!({
                "metadata": {"uid": uid, "resourceVersion": resource_version},
                "spec": {"minReadySeconds": seconds},
            });
            (Kind::ReplicaSet, Http::merge(at, body))
        }
    }
}

/// A merge patch; with a template a JSON patch, because a merge would leave what the old template had
/// and the new one has not.
fn deployment(at: String, uid: &str, version: &str, patch: &KnobPatch) -> Http {
    let mut spec = Map::new();
    let KnobPatch {
        paused,
        min_ready_seconds,
        progress_deadline_seconds,
        max_surge,
        max_unavailable,
        template,
        drop_wanted,
        why: _,
    } = patch;
    if let Some(paused) = paused {
        spec.insert("paused".into(), if *paused { json!(true) } else { json!(false) });
    }
    if let Some(seconds) = min_ready_seconds {
        spec.insert("minReadySeconds".into(), json!(seconds.unwrap_or(0)));
    }
    if let Some(seconds) = progress_deadline_seconds {
        spec.insert("progressDeadlineSeconds".into(), json!(seconds));
    }
    let mut rolling = Map::new();
    if let Some(surge) = max_surge {
        rolling.insert("maxSurge".into(), json!(surge));
    }
    if let Some(unavailable) = max_unavailable {
        rolling.insert("maxUnavailable".into(), json!(unavailable));
    }
    if let Some(template) = template {
        let mut ops = vec![
            json!({"op": "test", "path": "/metadata/uid", "value": uid}),
            json!({"op": "replace", "path": "/metadata/resourceVersion", "value": version}),
            json!({"op": "replace", "path": "/spec/template", "value": template}),
        ];
        for (key, value) in spec {
            let op = json!({"op": "add", "path": format!("/spec/{key}"), "value": value});
            ops.push(op);
        }
        for (key, value) in rolling {
            let at = format!("/spec/strategy/rollingUpdate/{key}");
            ops.push(json!({"op": "add", "path": at, "value": value}));
        }
        return Http::json_patch(at, Value::Array(ops));
    }
    if !rolling.is_empty() {
        spec.insert("strategy".into(), json!({"rollingUpdate": rolling}));
    }
    let mut metadata = json!({"uid": uid, "resourceVersion": version});
    if *drop_wanted && let Some(m) = metadata.as_object_mut() {
        m.insert("annotations".into(), json!({WANTED_ANNOTATION: null}));
    }
    let mut body = json!({"metadata": metadata});
    if !spec.is_empty()
        && let Some(b) = body.as_object_mut()
    {
        b.insert("spec".into(), Value::Object(spec));
    }
    Http::merge(at, body)
}
