//! The form of an answer: the object itself, only its metadata, or a table.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::{ApiStatus, Kind, Refusable, fields::text, table};

/// The form that a client accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The object as it is.
    Plain,
    /// A `meta.k8s.io/v1` Table, with the columns that kubectl prints.
    Table,
    /// Only the metadata.
    Metadata,
}

/// The first form in an Accept header that is served.
pub fn form(accept: &str) -> Refusable<Form> {
    let clauses = accept.split(',').map(str::trim).filter(|clause| !clause.is_empty());
    let mut any = false;
    for clause in clauses {
        any = true;
        let mut parts = clause.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        if !matches!(media, "application/json" | "application/*" | "*/*") {
            continue;
        }
        let kind = parts.find_map(|part| part.strip_prefix("as="));
        match kind {
            None => return Ok(Form::Plain),
            Some("Table") => return Ok(Form::Table),
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") => {
                return Ok(Form::Metadata);
            }
            Some(_) => {}
        }
    }
    if any {
        let message = "only the following media types are accepted: application/json";
        return Err(ApiStatus::new(406, "NotAcceptable", message));
    }
    Ok(Form::Plain)
}

/// An object or list in that form.
#[must_use]
pub fn shape(form: Form, kind: &Kind, answer: Arc<Value>, now: jiff::Timestamp) -> Arc<Value> {
    let other = text(&answer["kind"]);
    if other != kind.kind && other != kind.list_kind {
        return answer;
    }
    match form {
        Form::Plain => answer,
        Form::Table => Arc::new(table::of(kind, &answer, now)),
        Form::Metadata => Arc::new(match answer.get("items").and_then(Value::as_array) {
            Some(items) => json!({
                "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                "metadata": answer["metadata"],
                "items": items.iter().map(partial).collect::<Vec<_>>(),
            }),
            None => partial(&answer),
        }),
    }
}

/// Only the metadata of an object.
#[must_use]
pub fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
           "metadata": object["metadata"]})
}
