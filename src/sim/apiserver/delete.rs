//! Deletion: preconditions, grace, finalizers, and what an owner takes with it.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    ApiStatus, Refusable, ResourceKey,
    fields::{meta, meta_mut, object_mut, text},
    kinds::Kind,
    prepare::time,
    selector::Selector,
    server::Request,
    state::State,
    view,
};

/// DELETE of one object.
pub fn one(request: &Request<'_>, state: &mut State) -> Refusable<Value> {
    let (kind, call) = (&request.kind, request.call);
    let name = call.name.as_deref().unwrap_or_default();
    let namespace = call.namespace.as_deref().unwrap_or_default();
    let stored = state.stored(kind, namespace, name).cloned();
    let stored = stored.ok_or_else(|| ApiStatus::not_found(kind, name))?;
    preconditions(kind, &stored, &request.body["preconditions"])?;
    let held = stored["metadata"]["finalizers"].as_array().is_some_and(|list| !list.is_empty());
    let gone = if shows_deleted(kind) || (held && call.options.dry_run) {
        let mut last = Value::clone(&view::of(kind, &stored));
        stamp(&mut last, 0, request.now);
        last
    } else {
        success(kind, &stored)
    };
    if call.options.dry_run {
        return Ok(gone);
    }
    let policy = policy(request);
    if policy == "Orphan" {
        orphan(state, meta(&stored, "uid"));
    }
    match mark(state, kind, &stored, grace(request), request.now) {
        Some(waiting) => Ok(Value::clone(&view::of(kind, &waiting))),
        None => Ok(gone),
    }
}

/// DELETE of everything that the selectors choose.
pub fn collection(request: &Request<'_>, state: &mut State) -> Refusable<Value> {
    let (kind, call) = (&request.kind, request.call);
    let selector = Selector::of(kind, call)?;
    let chosen = state.stored_all(kind, call.namespace.as_deref());
    let chosen: Vec<Arc<Value>> = chosen.filter(|o| selector.matches(o)).cloned().collect();
    let items: Vec<Value> = chosen.iter().map(|o| Value::clone(&view::of(kind, o))).collect();
    if !call.options.dry_run {
        for object in &chosen {
            if policy(request) == "Orphan" {
                orphan(state, meta(object, "uid"));
            }
            mark(state, kind, object, grace(request), request.now);
        }
    }
    Ok(json!({
        "kind": kind.list_kind, "apiVersion": kind.key.api_version(),
        "metadata": {"resourceVersion": state.rv.to_string()}, "items": items,
    }))
}

fn policy(request: &Request<'_>) -> String {
    let (body, options) = (&request.body, &request.call.options);
    let given = options.propagation_policy.clone();
    given.unwrap_or_else(|| {
        if body["orphanDependents"] == true {
            "Orphan".to_owned()
        } else {
            text(&body["propagationPolicy"]).to_owned()
        }
    })
}

fn grace(request: &Request<'_>) -> Option<i64> {
    let given = request.call.options.grace_period_seconds;
    given.or_else(|| request.body["gracePeriodSeconds"].as_i64())
}

fn preconditions(kind: &Kind, stored: &Value, wanted: &Value) -> Refusable<()> {
    for (field, label, why) in [
        ("uid", "UID", "The object might have been deleted and then recreated"),
        ("resourceVersion", "ResourceVersion", "The object might have been modified"),
    ] {
        let (wanted, found) = (text(&wanted[field]), meta(stored, field));
        if !wanted.is_empty() && wanted != found {
            let why = format!(
                "the {label} in the precondition ({wanted}) does not match the {label} in record \
                 ({found}). {why}"
            );
            let (group, name) = (&kind.key.group, meta(stored, "name"));
            return Err(ApiStatus::conflict_of(group, &kind.kind, name, &why));
        }
    }
    Ok(())
}

/// Kinds whose deletion is answered with the object instead of with a Status.
fn shows_deleted(kind: &Kind) -> bool {
    let shown = ["pods", "services", "serviceaccounts", "persistentvolumeclaims"];
    kind.key.group.is_empty() && shown.contains(&kind.key.plural.as_ref())
}

fn success(kind: &Kind, stored: &Value) -> Value {
    let mut details = json!({
        "name": meta(stored, "name"), "kind": kind.key.plural, "uid": meta(stored, "uid"),
    });
    if !kind.key.group.is_empty() {
        details["group"] = json!(kind.key.group);
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
           "details": details})
}

/// Deletes an object or marks it as being deleted; `Some` with the marked object if it has to wait
/// for finalizers or for its grace period.
fn mark(
    state: &mut State,
    kind: &Kind,
    stored: &Value,
    grace: Option<i64>,
    now: Timestamp,
) -> Option<Arc<Value>> {
    let held = stored["metadata"]["finalizers"].as_array().is_some_and(|list| !list.is_empty());
    let grace = graceful(kind, stored, grace);
    let shorter = stored["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(i64::MAX);
    if !held && grace == 0 && (!container(kind) || is_empty(state, kind, stored)) {
        remove(state, kind, stored, now);
        return None;
    }
    if !meta(stored, "deletionTimestamp").is_empty() && grace >= shorter {
        return Some(Arc::new(stored.clone()));
    }
    let mut object = stored.clone();
    stamp(&mut object, grace, now);
    if kind.is("", "namespaces") {
        object_mut(&mut object["status"]).insert("phase".into(), json!("Terminating"));
    }
    let marked = state.put(kind, object);
    empty_out(state, kind, &marked, now);
    Some(marked)
}

/// Writes down that an object is being deleted.
fn stamp(object: &mut Value, grace: i64, now: Timestamp) {
    let at = now.saturating_add(SignedDuration::from_secs(grace)).unwrap_or(now);
    let generation = object["metadata"]["generation"].as_i64();
    let first = meta(object, "deletionTimestamp").is_empty();
    let metadata = meta_mut(object);
    metadata.insert("deletionTimestamp".into(), json!(time(at)));
    metadata.insert("deletionGracePeriodSeconds".into(), json!(grace));
    if let Some(generation) = generation.filter(|_| first) {
        metadata.insert("generation".into(), json!(generation + 1));
    }
}

/// Pods that run on a node get time to stop; everything else goes at once.
fn graceful(kind: &Kind, stored: &Value, grace: Option<i64>) -> i64 {
    let phase = text(&stored["status"]["phase"]);
    let runs = kind.is("", "pods")
        && !text(&stored["spec"]["nodeName"]).is_empty()
        && phase != "Succeeded"
        && phase != "Failed";
    if !runs {
        return 0;
    }
    let own = stored["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
    grace.unwrap_or(own).max(0)
}

/// Removes an object and what only it owned.
fn remove(state: &mut State, kind: &Kind, stored: &Value, now: Timestamp) {
    let (namespace, name) = (meta(stored, "namespace"), meta(stored, "name"));
    if state.remove(kind, namespace, name).is_none() {
        return;
    }
    let uid = meta(stored, "uid");
    for (owned, object) in state.owned_by(uid) {
        collect(state, &owned, &object, now);
    }
    finish_containers(state, kind, namespace, now);
}

/// Garbage: an object of which no owner is left. One with a living owner only loses the reference.
fn collect(state: &mut State, kind: &Kind, object: &Value, now: Timestamp) {
    let references = object["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
    let (living, dead): (Vec<Value>, Vec<Value>) =
        references.into_iter().partition(|reference| state.has_uid(text(&reference["uid"])));
    if dead.is_empty() {
        return;
    }
    if living.is_empty() {
        mark(state, kind, object, None, now);
        return;
    }
    let mut kept = object.clone();
    meta_mut(&mut kept).insert("ownerReferences".into(), json!(living));
    state.put(kind, kept);
}

/// Takes the references to an owner off everything that it owns.
fn orphan(state: &mut State, uid: &str) {
    for (kind, object) in state.owned_by(uid) {
        let mut kept = Value::clone(&object);
        let references = kept["metadata"]["ownerReferences"].as_array().cloned();
        let mut references = references.unwrap_or_default();
        references.retain(|reference| text(&reference["uid"]) != uid);
        if references.is_empty() {
            meta_mut(&mut kept).remove("ownerReferences");
        } else {
            meta_mut(&mut kept).insert("ownerReferences".into(), json!(references));
        }
        state.put(&kind, kept);
    }
}

/// Deletes a new object again if all its owners are gone already.
pub fn if_orphan(state: &mut State, kind: &Kind, stored: &Value, now: Timestamp) {
    let references = stored["metadata"]["ownerReferences"].as_array();
    if references.is_some_and(|references| !references.is_empty()) {
        collect(state, kind, stored, now);
    }
}

/// Removes an object that is being deleted once its last finalizer is gone.
pub fn if_finished(state: &mut State, kind: &Kind, stored: &Value, now: Timestamp) {
    let metadata = &stored["metadata"];
    let held = metadata["finalizers"].as_array().is_some_and(|list| !list.is_empty());
    let waits = metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or_default() > 0;
    let going = !meta(stored, "deletionTimestamp").is_empty();
    if going && !held && !waits && (!container(kind) || is_empty(state, kind, stored)) {
        remove(state, kind, stored, now);
    }
}

/// Namespaces and definitions hold other objects, which go first.
fn container(kind: &Kind) -> bool {
    kind.is("", "namespaces") || kind.is("apiextensions.k8s.io", "customresourcedefinitions")
}

fn contents(state: &State, kind: &Kind, stored: &Value) -> Vec<(Arc<Kind>, Arc<Value>)> {
    if kind.is("", "namespaces") {
        return state.in_namespace(meta(stored, "name"));
    }
    let spec = &stored["spec"];
    state.of_store(text(&spec["group"]), text(&spec["names"]["plural"]))
}

fn is_empty(state: &State, kind: &Kind, stored: &Value) -> bool {
    contents(state, kind, stored).is_empty()
}

fn empty_out(state: &mut State, kind: &Kind, stored: &Value, now: Timestamp) {
    if !container(kind) {
        return;
    }
    for (inner, object) in contents(state, kind, stored) {
        if state.stored(&inner, meta(&object, "namespace"), meta(&object, "name")).is_some() {
            mark(state, &inner, &object, None, now);
        }
    }
}

/// Removes a namespace or definition whose last content was just removed.
fn finish_containers(state: &mut State, removed: &Kind, namespace: &str, now: Timestamp) {
    let named = |state: &State, key: &ResourceKey, name: &str| {
        let kind = state.kinds.get(key)?.clone();
        let object = state.stored(&kind, "", name)?.clone();
        Some((kind, object))
    };
    let mut candidates: Vec<_> =
        named(state, &ResourceKey::NAMESPACES, namespace).into_iter().collect();
    if let Some(crd) = &removed.crd {
        candidates.extend(named(state, &ResourceKey::CRDS, meta(crd, "name")));
    }
    for (kind, object) in candidates {
        if_finished(state, &kind, &object, now);
    }
}
