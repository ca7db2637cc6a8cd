//! Refusals, in the form in which Kubernetes sends them: `metav1.Status`.

use serde_json::{Value, json};

use super::{call::ResourceKey, kinds::Kind};

/// A `metav1.Status` of a failed request.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiStatus {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason, such as `NotFound`; empty where Kubernetes gives none.
    pub reason: &'static str,
    /// What kubectl prints.
    pub message: String,
    /// `details`; `Null` where there are none.
    pub details: Value,
}

/// The result of anything that can be refused.
pub type Refusable<T> = Result<T, Box<ApiStatus>>;

impl ApiStatus {
    /// A refusal without details.
    #[must_use]
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Box<Self> {
        Box::new(Self { code, reason, message: message.into(), details: Value::Null })
    }

    /// 400 `BadRequest`.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Box<Self> {
        Self::new(400, "BadRequest", message)
    }

    /// 422 `Invalid`: what a validating policy denies.
    #[must_use]
    pub fn denied(resource: &ResourceKey, name: &str, message: &str) -> Box<Self> {
        let what = match resource.group.as_ref() {
            "" => resource.plural.to_string(),
            group => format!("{}.{group}", resource.plural),
        };
        let why = format!("{what} {name:?} is forbidden: {message}");
        let details = json!({"group": resource.group, "kind": resource.plural, "name": name,
            "causes": [{"message": message}]});
        Box::new(Self { details, ..*Self::new(422, "Invalid", why) })
    }

    /// 403 `Forbidden`.
    #[must_use]
    pub fn forbidden(message: impl Into<String>) -> Box<Self> {
        Self::new(403, "Forbidden", message)
    }

    /// 404 for a path that is not served.
    #[must_use]
    pub fn no_such_resource() -> Box<Self> {
        let message = "the server could not find the requested resource";
        Box::new(Self { details: json!({}), ..*Self::new(404, "NotFound", message) })
    }

    /// 405 `MethodNotAllowed`.
    #[must_use]
    pub fn method_not_allowed() -> Box<Self> {
        let message = "the server does not allow this method on the requested resource";
        Self::new(405, "MethodNotAllowed", message)
    }

    /// 422 `Invalid`, with one cause: a field path, what is wrong and its reason.
    #[must_use]
    pub fn invalid(kind: &str, group: &str, name: &str, causes: &[Cause]) -> Box<Self> {
        let qualified = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        let texts: Vec<String> =
            causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        let text = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let causes: Vec<Value> = causes
            .iter()
            .map(|c| json!({"reason": c.reason, "message": c.message, "field": c.field}))
            .collect();
        Box::new(Self {
            code: 422,
            reason: "Invalid",
            message: format!("{qualified} \"{name}\" is invalid: {text}"),
            details: details(name, group, kind, Some(&causes)),
        })
    }

    pub(super) fn not_found(kind: &Kind, name: &str) -> Box<Self> {
        let message = format!("{} \"{name}\" not found", kind.qualified());
        Self::about(404, "NotFound", kind, name, message)
    }

    pub(super) fn already_exists(kind: &Kind, name: &str) -> Box<Self> {
        let message = format!("{} \"{name}\" already exists", kind.qualified());
        Self::about(409, "AlreadyExists", kind, name, message)
    }

    pub(super) fn conflict(kind: &Kind, name: &str, why: &str) -> Box<Self> {
        Self::conflict_of(&kind.key.group, &kind.key.plural, name, why)
    }

    /// A conflict on what some messages call by another word than the plural.
    pub(super) fn conflict_of(group: &str, word: &str, name: &str, why: &str) -> Box<Self> {
        let shown = if group.is_empty() { word.to_owned() } else { format!("{word}.{group}") };
        let message = format!("Operation cannot be fulfilled on {shown} \"{name}\": {why}");
        let details = details(name, group, word, None);
        Box::new(Self { code: 409, reason: "Conflict", message, details })
    }

    pub(super) fn stale(kind: &Kind, name: &str) -> Box<Self> {
        let why = "the object has been modified; please apply your changes to the latest version \
                   and try again";
        Self::conflict(kind, name, why)
    }

    pub(super) fn expired(message: impl Into<String>) -> Box<Self> {
        Self::new(410, "Expired", message)
    }

    fn about(
        code: u16,
        reason: &'static str,
        kind: &Kind,
        name: &str,
        message: String,
    ) -> Box<Self> {
        let details = details(name, &kind.key.group, &kind.key.plural, None);
        Box::new(Self { code, reason, message, details })
    }

    /// True for a 404.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.code == 404
    }

    /// True for a write that lost a race.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.reason == "Conflict"
    }

    /// The JSON that goes over the wire.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = json!(self.reason);
        }
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        status
    }
}

/// `details` of a Status: what is empty is left out.
fn details(name: &str, group: &str, kind: &str, causes: Option<&[Value]>) -> Value {
    let mut details = json!({});
    for (field, value) in [("name", name), ("group", group), ("kind", kind)] {
        if !value.is_empty() {
            details[field] = json!(value);
        }
    }
    if let Some(causes) = causes {
        details["causes"] = json!(causes);
    }
    details
}

/// One reason why an object is invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Path of the field, such as `spec.replicas`.
    pub field: String,
    /// What is wrong with it, such as `Required value: must be set`.
    pub message: String,
    /// `FieldValueInvalid`, `FieldValueRequired`, ...
    pub reason: &'static str,
}

impl Cause {
    /// `Invalid value: VALUE: WHY`.
    #[must_use]
    pub fn invalid(field: impl Into<String>, value: &Value, why: &str) -> Self {
        Self {
            field: field.into(),
            message: format!("Invalid value: {value}: {why}"),
            reason: "FieldValueInvalid",
        }
    }

    /// `Required value: WHY`.
    #[must_use]
    pub fn required(field: impl Into<String>, why: &str) -> Self {
        let message = if why.is_empty() {
            "Required value".to_owned()
        } else {
            format!("Required value: {why}")
        };
        Self { field: field.into(), message, reason: "FieldValueRequired" }
    }
}
