//! What the server itself decides about an object: identity, generation, the split between status
//! and the rest, and the few fields that it fills in for built-in kinds.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    ApiStatus, Cause, Refusable, ResourceKey,
    fields::{copy_field, copy_fields, meta, meta_mut, object_mut, text},
    kinds::{Generation, Kind},
    state::State,
};

/// A time as Kubernetes writes it: whole seconds, UTC.
#[must_use]
pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Puts a new object where the URL says.
pub fn place(kind: &Kind, object: &mut Value, namespace: &str) -> Refusable<()> {
    let given = meta(object, "namespace");
    if kind.namespaced && !given.is_empty() && given != namespace {
        let message = "the namespace of the provided object does not match the namespace sent on \
                       the request";
        return Err(ApiStatus::bad_request(message));
    }
    let metadata = meta_mut(object);
    if kind.namespaced {
        metadata.insert("namespace".into(), json!(namespace));
    } else {
        metadata.remove("namespace");
    }
    Ok(())
}

/// Nothing is created in a namespace that does not exist or that is going.
pub fn namespace_is_open(kind: &Kind, state: &State, namespace: &str) -> Refusable<()> {
    if !kind.namespaced {
        return Ok(());
    }
    let namespaces = state.kinds.get(&ResourceKey::NAMESPACES).cloned();
    let Some(namespaces) = namespaces else { return Ok(()) };
    let Some(found) = state.stored(&namespaces, "", namespace) else {
        return Err(ApiStatus::not_found(&namespaces, namespace));
    };
    if !meta(found, "deletionTimestamp").is_empty() {
        let message = format!(
            "unable to create new content in namespace {namespace} because it is being terminated"
        );
        return Err(ApiStatus::forbidden(message));
    }
    Ok(())
}

/// Gives the object a name if it only has a prefix for one.
pub fn name(kind: &Kind, state: &mut State, object: &mut Value) -> Refusable<()> {
    if !meta(object, "name").is_empty() {
        return Ok(());
    }
    let prefix = meta(object, "generateName").to_owned();
    if prefix.is_empty() {
        let cause = Cause::required("metadata.name", "name or generateName is required");
        return Err(ApiStatus::invalid(&kind.kind, &kind.key.group, "", &[cause]));
    }
    let short: String = prefix.chars().take(58).collect();
    let name = format!("{short}{}", state.next_suffix());
    meta_mut(object).insert("name".into(), json!(name));
    Ok(())
}

/// The name of a Service is one label of a host's name.
pub fn service_name(kind: &Kind, object: &Value) -> Refusable<()> {
    let name = meta(object, "name");
    if !kind.is("", "services") {
        return Ok(());
    }
    let is_label = |part: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !part.is_empty() && part.chars().all(inner) && part == part.trim_matches('-')
    };
    let mut causes = Vec::new();
    let mut refuse = |why| causes.push(Cause::invalid("metadata.name", &json!(name), why));
    if name.len() > 63 {
        refuse("must be no more than 63 characters");
    }
    if !is_label(name) {
        refuse(match name.split('.').all(is_label) {
            true => "must not contain dots",
            false => {
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or \
                 '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or \
                 '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            }
        });
    }
    if causes.is_empty() {
        return Ok(());
    }
    Err(ApiStatus::invalid(&kind.kind, &kind.key.group, name, &causes))
}

/// Everything that a new object gets from the server.
pub fn for_create(kind: &Kind, state: &mut State, object: &mut Value, now: Timestamp) {
    let uid = state.next_uid();
    let metadata = meta_mut(object);
    for name in ["deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion", "selfLink"] {
        metadata.remove(name);
    }
    metadata.insert("uid".into(), json!(uid));
    metadata.insert("creationTimestamp".into(), json!(time(now)));
    if kind.generation == Generation::None {
        metadata.remove("generation");
    } else {
        metadata.insert("generation".into(), json!(1));
    }
    if kind.status && !kind.is("", "nodes") {
        object_mut(object).remove("status");
    }
    match (kind.key.group.as_ref(), kind.key.plural.as_ref()) {
        ("", "namespaces") => {
            object["status"] = json!({"phase": "Active"});
            object["spec"] = json!({"finalizers": ["kubernetes"]});
            let name = meta(object, "name").to_owned();
            let labels = object_mut(meta_mut(object).entry("labels").or_insert(Value::Null));
            labels.insert("kubernetes.io/metadata.name".into(), json!(name));
        }
        ("", "pods") => object["status"] = json!({"phase": "Pending", "qosClass": "BestEffort"}),
        ("", "services") => service(state, object),
        ("apiextensions.k8s.io", "customresourcedefinitions") => establish(object, now),
        ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets")
        | ("policy", _)
        | ("networking.k8s.io", "ingresses") => object["status"] = json!({}),
        _ => {}
    }
}

/// A cluster IP of its own from 10.96.0.0/16, unless the service is headless or has one.
fn service(state: &mut State, object: &mut Value) {
    object["status"] = json!({"loadBalancer": {}});
    let spec = object_mut(&mut object["spec"]);
    let given = spec.get("clusterIP").map(text).unwrap_or_default().to_owned();
    if !given.is_empty() || spec.get("type").map(text) == Some("ExternalName") {
        return;
    }
    let number = state.next_address();
    let address = format!("10.96.{}.{}", number / 250, number % 250 + 1);
    spec.insert("clusterIP".into(), json!(address));
    spec.insert("clusterIPs".into(), json!([address]));
}

/// A definition is served as soon as it is stored.
fn establish(object: &mut Value, now: Timestamp) {
    let condition = |kind: &str, reason: &str, message: &str| {
        json!({"type": kind, "status": "True", "reason": reason, "message": message,
               "lastTransitionTime": time(now)})
    };
    let names = object["spec"]["names"].clone();
    let versions = object["spec"]["versions"].as_array().cloned().unwrap_or_default();
    let stored: Vec<Value> = versions
        .iter()
        .filter(|version| version["storage"] == true)
        .map(|version| version["name"].clone())
        .collect();
    object["status"] = json!({
        "acceptedNames": names, "storedVersions": stored,
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted",
                      "the initial names have been accepted"),
        ],
    });
}

/// Identity is the server's: what a write says about it is dropped.
pub fn keep_identity(old: &Value, new: &mut Value) {
    let none = Map::new();
    let from = old["metadata"].as_object().unwrap_or(&none);
    let to = meta_mut(new);
    for name in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "resourceVersion",
        "generateName",
        "selfLink",
    ] {
        copy_field(from, to, name);
    }
}

/// A write to the status subresource: everything else stays as it was, but that built-in kinds
/// take annotations with it (the Deployment controller writes its revision so).
pub fn status_only(kind: &Kind, old: &Value, mut new: Value) -> Value {
    let moved: &[&str] = match kind.crd {
        None => &["managedFields", "annotations"],
        Some(_) => &["managedFields"],
    };
    let none = Map::new();
    let metadata = old["metadata"].as_object().unwrap_or(&none);
    copy_fields(metadata, meta_mut(&mut new), moved);
    let fields = old.as_object().unwrap_or(&none);
    copy_fields(fields, object_mut(&mut new), &["metadata", "status"]);
    new
}

/// A write to the object itself: the status stays as it was.
pub fn keep_status(old: &Value, new: &mut Value) {
    let none = Map::new();
    copy_field(old.as_object().unwrap_or(&none), object_mut(new), "status");
}

/// Counts the generation up when what the user wants has changed.
pub fn generation(kind: &Kind, old: &Value, new: &mut Value) {
    let changed = match kind.generation {
        Generation::None => false,
        Generation::Spec => old["spec"] != new["spec"],
        Generation::SpecOrAnnotations => {
            old["spec"] != new["spec"]
                || old["metadata"]["annotations"] != new["metadata"]["annotations"]
        }
        Generation::AllButMetadata => {
            let status = if kind.status { "status" } else { "metadata" };
            !equal_but(old, new, &["metadata", status])
        }
    };
    if changed {
        let before = old["metadata"]["generation"].as_i64().unwrap_or_default();
        meta_mut(new).insert("generation".into(), json!(before + 1));
    }
}

/// Nobody adds a finalizer to an object that is being deleted.
pub fn finalizers_may_only_go(kind: &Kind, old: &Value, new: &Value) -> Refusable<()> {
    if meta(old, "deletionTimestamp").is_empty() {
        return Ok(());
    }
    let list = |object: &Value| -> Vec<String> {
        let list = object["metadata"]["finalizers"].as_array();
        list.into_iter().flatten().map(|name| text(name).to_owned()).collect()
    };
    let had = list(old);
    let added: Vec<String> = list(new).into_iter().filter(|name| !had.contains(name)).collect();
    if added.is_empty() {
        return Ok(());
    }
    let cause = Cause {
        field: "metadata.finalizers".into(),
        message: format!(
            "Forbidden: no new finalizers can be added if the object is being deleted, found new \
             finalizers []string{{{}}}",
            added.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
        ),
        reason: "FieldValueForbidden",
    };
    Err(ApiStatus::invalid(&kind.kind, &kind.key.group, meta(old, "name"), &[cause]))
}

/// Kinds whose PUT must carry a resourceVersion.
#[must_use]
pub fn must_be_conditional(kind: &Kind) -> bool {
    kind.crd.is_some()
        || matches!(
            kind.key.group.as_ref(),
            "apiextensions.k8s.io"
                | "coordination.k8s.io"
                | "policy"
                | "admissionregistration.k8s.io"
        )
}

/// True if storing the new object would change nothing: times in managedFields do not count.
#[must_use]
pub fn same(old: &Value, new: &Value) -> bool {
    fn entries(object: &Value) -> &[Value] {
        object["metadata"]["managedFields"].as_array().map_or(&[], Vec::as_slice)
    }
    let (before, after) = (entries(old), entries(new));
    equal_but(old, new, &["metadata"])
        && equal_but(&old["metadata"], &new["metadata"], &["managedFields"])
        && before.len() == after.len()
        && before.iter().zip(after).all(|(old, new)| equal_but(old, new, &["time"]))
}

/// Whether two objects have the same fields, some left out. Fields are sorted by their names.
fn equal_but(one: &Value, other: &Value, left_out: &[&str]) -> bool {
    fn rest<'a>(
        value: &'a Value,
        left_out: &[&str],
    ) -> impl Iterator<Item = (&'a String, &'a Value)> {
        let fields = value.as_object().into_iter().flatten();
        fields.filter(|(name, _)| !left_out.contains(&name.as_str()))
    }
    rest(one, left_out).eq(rest(other, left_out))
}

/// Sets one condition of a status.
pub fn set_condition(status: &mut Value, kind: &str, value: &str, now: Timestamp) {
    let conditions = object_mut(status).entry("conditions").or_insert_with(|| json!([]));
    let Some(conditions) = conditions.as_array_mut() else { return };
    conditions.retain(|condition| text(&condition["type"]) != kind);
    conditions.push(json!({
        "type": kind, "status": value, "lastProbeTime": null, "lastTransitionTime": time(now),
    }));
}
