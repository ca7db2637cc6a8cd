//! Creates and changes: the path of an object from a request's body into the store.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    ApiStatus, Cause, FieldValidation, Operation, PatchType, Reader, Refusable, Verb, Write,
    delete,
    fields::{meta, meta_mut, object_mut, text},
    kinds::Kind,
    managed, patch, prepare, scale,
    schemas::{self, Schema},
    server::Request,
    state::State,
    users, view,
};

/// POST.
pub fn create(request: &mut Request<'_>, state: &mut State) -> Refusable<Arc<Value>> {
    match request.call.subresource.as_deref() {
        None => {}
        Some("binding") if request.kind.is("", "pods") => return bind(request, state),
        Some(_) => return Err(ApiStatus::no_such_resource()),
    }
    let body = request.body.take();
    let mut object = decode(request, body)?;
    if !meta(&object, "resourceVersion").is_empty() {
        let message = "resourceVersion should not be set on objects to be created";
        return Err(ApiStatus::new(500, "", message));
    }
    let namespace = request.call.namespace.as_deref().unwrap_or_default();
    prepare::place(&request.kind, &mut object, namespace)?;
    insert(request, state, object)
}

/// PUT.
pub fn update(request: &mut Request<'_>, state: &mut State) -> Refusable<Arc<Value>> {
    let body = request.body.take();
    if request.call.subresource.as_deref() == Some("scale") {
        return change(request, state, |kind, old| {
            same_uid(kind, Some("scale"), old, &body)?;
            fresh(kind, old, &body)?;
            scale::set(kind, old, &body)
        });
    }
    let name = request.call.name.clone().unwrap_or_default();
    if meta(&body, "name") != name {
        let given = meta(&body, "name");
        let message =
            format!("the name of the object ({given}) does not match the name on the URL ({name})");
        return Err(ApiStatus::bad_request(message));
    }
    let body = decode(request, body)?;
    change(request, state, |kind, old| {
        if meta(&body, "resourceVersion").is_empty() && prepare::must_be_conditional(kind) {
            let why = "must be specified for an update";
            let cause = Cause::invalid("metadata.resourceVersion", &json!(0), why);
            let (plural, group) = (&kind.key.plural, &kind.key.group);
            return Err(ApiStatus::invalid(plural, group, &name, &[cause]));
        }
        same_uid(kind, None, old, &body)?;
        fresh(kind, old, &body)?;
        Ok(body)
    })
}

/// PATCH; the flag says whether the object was created.
pub fn patch(
    request: &mut Request<'_>,
    state: &mut State,
    how: PatchType,
) -> Refusable<(Arc<Value>, bool)> {
    if how == PatchType::Apply && request.call.subresource.as_deref() != Some("scale") {
        return apply(request, state);
    }
    let body = request.body.take();
    if request.call.subresource.as_deref() == Some("scale") {
        let changed = change(request, state, |kind, old| {
            let shown = scale::of(kind, old)?;
            let wanted = patch::apply(how, kind, Schema::none(), &shown, &body)?;
            same_uid(kind, Some("scale"), old, &wanted)?;
            fresh(kind, old, &wanted)?;
            scale::set(kind, old, &wanted)
        })?;
        return Ok((changed, false));
    }
    let changed = change(request, state, |kind, old| {
        let wanted = patch::apply(how, kind, Schema::of(kind), old, &body)?;
        uid_is_kept(kind, old, &wanted)?;
        fresh(kind, old, &wanted)?;
        Ok(wanted)
    })?;
    Ok((changed, false))
}

/// PATCH by server-side apply: creates what is not there.
fn apply(request: &mut Request<'_>, state: &mut State) -> Refusable<(Arc<Value>, bool)> {
    let (call, now) = (request.call, request.now);
    managed::check_apply(call, &request.body)?;
    let body = request.body.take();
    let body = decode(request, body)?;
    let name = call.name.as_deref().unwrap_or_default();
    let namespace = call.namespace.as_deref().unwrap_or_default();
    let kind = request.kind.clone();
    if state.stored(&kind, namespace, name).is_some() || call.subresource.is_some() {
        let changed = change(request, state, |kind, old| {
            uid_is_kept(kind, old, &body)?;
            fresh(kind, old, &body)?;
            let mut body = body;
            meta_mut(&mut body).remove("resourceVersion");
            managed::applied(call, kind, Some(old), &body, now)
        })?;
        return Ok((changed, false));
    }
    if !meta(&body, "uid").is_empty() {
        let why = format!(
            "uid mismatch: the provided object specified uid {}, and no existing object was found",
            meta(&body, "uid")
        );
        return Err(ApiStatus::conflict(&kind, name, &why));
    }
    let mut object = managed::applied(call, &kind, None, &body, now)?;
    meta_mut(&mut object).insert("name".into(), json!(name));
    prepare::place(&kind, &mut object, namespace)?;
    Ok((insert(request, state, object)?, true))
}

/// Reads a body as an object of the request's kind.
pub(super) fn decode(request: &Request<'_>, mut body: Value) -> Refusable<Value> {
    let kind = &request.kind;
    if !body.is_object() {
        return Err(ApiStatus::bad_request("the body of the request is not an object"));
    }
    let version = kind.key.api_version();
    let fields = object_mut(&mut body);
    for (name, expected) in [("apiVersion", version.as_str()), ("kind", kind.kind.as_str())] {
        let given = fields.get(name).map(text).unwrap_or_default().to_owned();
        if given.is_empty() {
            fields.insert(name.to_owned(), json!(expected));
        } else if given != expected {
            let message = format!(
                "the object provided is unrecognized (must be of type {}): {name} is {given}, \
                 not {expected}",
                kind.kind
            );
            return Err(ApiStatus::bad_request(message));
        }
    }
    Ok(body)
}

/// Stores a new object.
pub(super) fn insert(
    request: &mut Request<'_>,
    state: &mut State,
    mut object: Value,
) -> Refusable<Arc<Value>> {
    let kind = request.kind.clone();
    prepare::namespace_is_open(&kind, state, meta(&object, "namespace"))?;
    prepare::name(&kind, state, &mut object)?;
    let (namespace, name) =
        (meta(&object, "namespace").to_owned(), meta(&object, "name").to_owned());
    if state.stored(&kind, &namespace, &name).is_some() {
        return Err(ApiStatus::already_exists(&kind, &name));
    }
    admit(request, state, None, &mut object)?;
    prepare::for_create(&kind, state, &mut object, request.now);
    prepare::service_name(&kind, &object)?;
    validate(request, state, None, &object)?;
    if request.call.options.dry_run {
        return Ok(Arc::new(object));
    }
    let stored = state.put(&kind, view::to_stored(&kind, object));
    let answer = view::of(&kind, &stored);
    delete::if_orphan(state, &kind, &stored, request.now);
    Ok(answer)
}

/// Changes a stored object: `transform` makes the wanted object from the stored one.
pub(super) fn change(
    request: &mut Request<'_>,
    state: &mut State,
    transform: impl FnOnce(&Kind, &Value) -> Refusable<Value>,
) -> Refusable<Arc<Value>> {
    let kind = request.kind.clone();
    let call = request.call;
    let subresource = call.subresource.as_deref();
    let served = match subresource {
        None => true,
        Some("status") => kind.status,
        Some("scale") => kind.scale.is_some(),
        Some(_) => false,
    };
    if !served {
        return Err(ApiStatus::no_such_resource());
    }
    let name = call.name.as_deref().unwrap_or_default();
    let namespace = call.namespace.as_deref().unwrap_or_default();
    let stored = state.stored(&kind, namespace, name).cloned();
    let stored = stored.ok_or_else(|| ApiStatus::not_found(&kind, name))?;
    let old = view::of(&kind, &stored);
    let mut new = transform(&kind, &old)?;
    prepare::keep_identity(&old, &mut new);
    if subresource == Some("status") {
        new = prepare::status_only(&kind, &old, new);
    } else if kind.status && subresource.is_none() {
        prepare::keep_status(&old, &mut new);
    }
    if subresource == Some("scale") {
        managed::update(call, &kind, Some(&old), &mut new, request.now);
    } else {
        admit(request, state, Some(&old), &mut new)?;
        prepare::keep_identity(&old, &mut new);
    }
    if subresource != Some("status") {
        prepare::generation(&kind, &old, &mut new);
    }
    prepare::finalizers_may_only_go(&kind, &old, &new)?;
    validate(request, state, Some(&old), &new)?;
    let answer = commit(request, state, &old, new);
    if subresource == Some("scale") { scale::of(&kind, &answer).map(Arc::new) } else { Ok(answer) }
}

/// Persists a change, unless it changes nothing or is a dry run.
fn commit(request: &Request<'_>, state: &mut State, old: &Arc<Value>, new: Value) -> Arc<Value> {
    let kind = &request.kind;
    if request.call.options.dry_run || prepare::same(old, &new) {
        return if request.call.options.dry_run { Arc::new(new) } else { old.clone() };
    }
    let stored = state.put(kind, view::to_stored(kind, new));
    let answer = view::of(kind, &stored);
    delete::if_finished(state, kind, &stored, request.now);
    answer
}

/// The uid of a PUT, and of any write to a Scale, is a precondition.
fn same_uid(kind: &Kind, below: Option<&str>, old: &Value, wanted: &Value) -> Refusable<()> {
    let (given, stored) = (meta(wanted, "uid"), meta(old, "uid"));
    if given.is_empty() || given == stored {
        return Ok(());
    }
    let why =
        format!("Precondition failed: UID in precondition: {given}, UID in object meta: {stored}");
    let word = below.map_or_else(
        || kind.key.plural.to_string(),
        |below| format!("{}/{below}", kind.key.plural),
    );
    Err(ApiStatus::conflict_of(&kind.key.group, &word, meta(old, "name"), &why))
}

/// The uid of a PATCH is a field like others, and one that cannot be changed.
fn uid_is_kept(kind: &Kind, old: &Value, wanted: &Value) -> Refusable<()> {
    let given = &wanted["metadata"]["uid"];
    if text(given).is_empty() || *given == old["metadata"]["uid"] {
        return Ok(());
    }
    let cause = Cause::invalid("metadata.uid", given, "field is immutable");
    Err(ApiStatus::invalid(&kind.kind, &kind.key.group, meta(old, "name"), &[cause]))
}

/// The resourceVersion that a write carries must be the stored one.
fn fresh(kind: &Kind, old: &Value, wanted: &Value) -> Refusable<()> {
    let given = meta(wanted, "resourceVersion");
    if !given.is_empty() && given != meta(old, "resourceVersion") {
        return Err(ApiStatus::stale(kind, meta(old, "name")));
    }
    Ok(())
}

/// Schema and policies, up to the point where the object is final.
fn admit(
    request: &mut Request<'_>,
    state: &State,
    old: Option<&Value>,
    object: &mut Value,
) -> Refusable<()> {
    let kind = request.kind.clone();
    let groups = users::groups(&request.call.user);
    let write = plug(request, &kind, state, old, &groups);
    let settled = settled(request, object);
    let mut unknown = (request.plugins.prune)(&write, object);
    unknown.extend(schemas::prune(&kind, old, object));
    let refused =
        !unknown.is_empty() && request.call.options.field_validation == FieldValidation::Strict;
    if refused {
        object_mut(object).extend(settled);
        return Err(unknown_fields(request, object, &unknown));
    }
    (request.plugins.default)(&write, object);
    object_mut(object).extend(settled);
    if request.call.verb != Verb::Patch(PatchType::Apply) {
        managed::update(request.call, &kind, old, object, request.now);
    }
    (request.plugins.mutate)(&write, object)?;
    if request.call.options.field_validation == FieldValidation::Warn {
        let texts = unknown.iter().map(|path| format!("unknown field \"{path}\""));
        request.warnings.extend(texts);
    }
    Ok(())
}

/// What a write to the status of a built-in kind leaves as it is stored, taken out: it was pruned and
/// defaulted when it was written, and looking at it again is most of what such a write costs.
fn settled(request: &Request<'_>, object: &mut Value) -> Option<(String, Value)> {
    let is_status = request.call.subresource.as_deref() == Some("status");
    let object = object.as_object_mut().filter(|_| is_status && request.kind.crd.is_none());
    object.and_then(|fields| fields.remove_entry("spec"))
}

/// The refusal of fields that nobody knows; a patch is refused with the object that it makes.
fn unknown_fields(request: &Request<'_>, object: &Value, paths: &[String]) -> Box<ApiStatus> {
    let list: Vec<String> = paths.iter().map(|path| format!("unknown field \"{path}\"")).collect();
    let why = format!("strict decoding error: {}", list.join(", "));
    if matches!(request.call.verb, Verb::Patch(_)) {
        let cause = Cause::invalid("patch", &json!(object.to_string()), &why);
        return ApiStatus::invalid("", "", "", &[cause]);
    }
    let kind = &request.kind;
    ApiStatus::bad_request(format!(
        "{} in version \"{}\" cannot be handled as a {}: {why}",
        kind.kind, kind.key.version, kind.kind
    ))
}

fn validate(
    request: &mut Request<'_>,
    state: &State,
    old: Option<&Value>,
    object: &Value,
) -> Refusable<()> {
    let groups = users::groups(&request.call.user);
    let write = plug(request, &request.kind, state, old, &groups);
    let warnings = (request.plugins.validate)(&write, object)?;
    request.warnings.extend(warnings);
    Ok(())
}

fn plug<'a>(
    request: &Request<'a>,
    kind: &'a Kind,
    state: &'a State,
    old: Option<&'a Value>,
    groups: &'a [String],
) -> Write<'a> {
    Write {
        call: request.call,
        operation: if old.is_some() { Operation::Update } else { Operation::Create },
        resource: &kind.key,
        kind: &kind.kind,
        groups,
        old,
        crd: kind.crd.as_ref(),
        store: Reader(state),
    }
}

/// POST of a Binding: puts a pod on a node.
fn bind(request: &mut Request<'_>, state: &mut State) -> Refusable<Arc<Value>> {
    let node = text(&request.body["target"]["name"]).to_owned();
    let name = request.call.name.clone().unwrap_or_default();
    let namespace = request.call.namespace.clone().unwrap_or_default();
    let kind = request.kind.clone();
    let stored = state.stored(&kind, &namespace, &name).cloned();
    let old = stored.ok_or_else(|| ApiStatus::not_found(&kind, &name))?;
    let bound = text(&old["spec"]["nodeName"]);
    if !bound.is_empty() {
        let why = format!("pod {name} is already assigned to node \"{bound}\"");
        return Err(ApiStatus::conflict_of("", "pods/binding", &name, &why));
    }
    let mut pod = Value::clone(&old);
    object_mut(&mut pod["spec"]).insert("nodeName".into(), json!(node));
    let mut status = pod["status"].take();
    prepare::set_condition(&mut status, "PodScheduled", "True", request.now);
    object_mut(&mut pod).insert("status".into(), status);
    meta_mut(&mut pod);
    if !request.call.options.dry_run {
        state.put(&kind, pod);
    }
    Ok(Arc::new(json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
    })))
}
