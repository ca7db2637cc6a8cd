//! Schemas, built-in kinds and admission policies, plugged into the in-memory API server.
//!
//! The server keeps no rule of its own about any kind of Sluice's: what is gated is what the
//! policies, bindings and parameters that are stored in it say at that moment.

use std::sync::Arc;

use serde_json::Value;

use super::{
    apiserver::{ApiServer, ApiStatus, Cause, Operation, Plugins, Refusable, ResourceKey, Write},
    cel::{self, AdmissionRequest, Policies},
    schema::{self, FieldError, builtin},
};
use crate::clock::Clock;

/// The API server as Kubernetes has it: it defaults, prunes, validates and asks its policies.
#[must_use]
pub fn api_server(clock: Arc<dyn Clock>) -> ApiServer {
    ApiServer::with_plugins(clock, plugins())
}

/// The plug points of [`api_server`].
#[must_use]
pub fn plugins() -> Plugins {
    Plugins {
        prune: Box::new(prune),
        default: Box::new(default),
        mutate: Box::new(mutate),
        validate: Box::new(validate),
    }
}

/// The schema of a custom resource; a built-in kind has none here.
fn schema_of<'a>(write: &Write<'a>) -> Option<&'a Value> {
    schema::of_version(write.crd?, &write.resource.version)
}

fn prune(write: &Write<'_>, object: &mut Value) -> Vec<String> {
    schema_of(write).map(|schema| schema::prune(schema, object)).unwrap_or_default()
}

fn default(write: &Write<'_>, object: &mut Value) {
    if let Some(schema) = schema_of(write) {
        schema::default(schema, object);
    } else if write.crd.is_none() {
        builtin::default(&write.resource.group, write.kind, object);
    }
}

fn validate(write: &Write<'_>, object: &Value) -> Refusable<Vec<String>> {
    let errors = if let Some(schema) = schema_of(write) {
        schema::validate(schema, object, write.old)
    } else if write.crd.is_none() && write.call.subresource.as_deref() != Some("status") {
        builtin::validate(&write.resource.group, write.kind, object, write.old)
    } else {
        Vec::new()
    };
    let mut causes: Vec<Cause> = errors.iter().map(cause).collect();
    let policies = [ResourceKey::MUTATING_POLICIES, ResourceKey::VALIDATING_POLICIES];
    if policies.contains(write.resource) {
        causes.extend(cel::parse_errors(object).into_iter().map(|(field, error)| Cause {
            field,
            message: format!("Invalid value: {error}"),
            reason: "FieldValueInvalid",
        }));
    }
    if causes.is_empty() {
        return judge(write, object);
    }
    let name = name_of(write, object);
    Err(ApiStatus::invalid(write.kind, &write.resource.group, &name, &causes))
}

/// What the validating policies say of an object that its schema accepts.
fn judge(write: &Write<'_>, object: &Value) -> Refusable<Vec<String>> {
    let policies = write.store.list(&ResourceKey::VALIDATING_POLICIES, None);
    if policies.is_empty() {
        return Ok(Vec::new());
    }
    let request = admission_request(write, object);
    if !cel::concern(&policies, &request) {
        return Ok(Vec::new());
    }
    let bindings = write.store.list(&ResourceKey::VALIDATING_POLICY_BINDINGS, None);
    let outcome = surrounded(write, &request, &policies, &bindings, |surroundings| {
        cel::validate(&request, object, write.old, surroundings)
    });
    for message in &outcome.ignored {
        tracing::debug!(message, "a policy failed and was ignored");
    }
    match outcome.denied {
        None => Ok(outcome.warnings),
        Some(message) => Err(ApiStatus::denied(write.resource, &name_of(write, object), &message)),
    }
}

/// Calls `ask` with what surrounds a request.
fn surrounded<T>(
    write: &Write<'_>,
    request: &AdmissionRequest,
    policies: &[Arc<Value>],
    bindings: &[Arc<Value>],
    ask: impl FnOnce(&Policies<'_>) -> T,
) -> T {
    let namespace = write.store.get(&ResourceKey::NAMESPACES, "", &request.namespace);
    let param = |api_version: &str, kind: &str, namespace: &str, name: &str| {
        let resource = write.store.resource_of(api_version, kind)?;
        let found = write.store.get(&resource, namespace, name);
        found.or_else(|| write.store.get(&resource, "", name))
    };
    ask(&Policies {
        policies,
        bindings,
        namespace: namespace.as_deref(),
        param: &param,
        default: &|object| default(write, object),
    })
}

fn cause(error: &FieldError) -> Cause {
    let FieldError { fault, field, .. } = error;
    Cause { field: field.clone(), message: error.message(), reason: fault.reason() }
}

fn name_of(write: &Write<'_>, object: &Value) -> String {
    let given = object.pointer("/metadata/name").and_then(Value::as_str);
    given.or(write.call.name.as_deref()).unwrap_or_default().to_owned()
}

fn mutate(write: &Write<'_>, object: &mut Value) -> Refusable<()> {
    let policies = write.store.list(&ResourceKey::MUTATING_POLICIES, None);
    if policies.is_empty() {
        return Ok(());
    }
    let request = admission_request(write, object);
    if !cel::concern(&policies, &request) {
        return Ok(());
    }
    let bindings = write.store.list(&ResourceKey::MUTATING_POLICY_BINDINGS, None);
    let is_status = request.subresource == "status";
    let whole = if is_status { object.clone() } else { object.take() };
    let outcome = surrounded(write, &request, &policies, &bindings, |surroundings| {
        cel::mutate(&request, whole, write.old, surroundings)
    });
    for message in &outcome.ignored {
        tracing::debug!(message, "a policy failed and was ignored");
    }
    if let Some(message) = outcome.denied {
        return Err(ApiStatus::new(403, "Invalid", message));
    }
    if is_status {
        // A write to the status cannot change the rest, whoever makes it.
        let mut outcome = outcome.object;
        object["status"] = outcome["status"].take();
    } else {
        *object = outcome.object;
    }
    Ok(())
}

fn admission_request(write: &Write<'_>, object: &Value) -> AdmissionRequest {
    let call = write.call;
    AdmissionRequest {
        operation: match write.operation {
            Operation::Create => "CREATE".to_owned(),
            Operation::Update => "UPDATE".to_owned(),
        },
        username: call.user.clone(),
        groups: write.groups.to_vec(),
        dry_run: call.options.dry_run,
        group: write.resource.group.to_string(),
        version: write.resource.version.to_string(),
        resource: write.resource.plural.to_string(),
        kind: write.kind.to_owned(),
        subresource: call.subresource.clone().unwrap_or_default(),
        namespace: call.namespace.clone().unwrap_or_default(),
        name: name_of(write, object),
    }
}

#[cfg(test)]
mod tests;
