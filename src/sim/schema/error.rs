//! What is wrong with a field, in the words and shapes of Kubernetes.

use std::fmt;

use serde_json::Value;

/// The kind of a fault: it decides the reason that a client reads and the head of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The value is not acceptable.
    Invalid,
    /// The value has the wrong type.
    TypeInvalid,
    /// The value is missing.
    Required,
    /// The value is not in the list of values.
    NotSupported,
    /// The value may not be set (here).
    Forbidden,
    /// A key or an element occurs twice.
    Duplicate,
    /// A string is too long.
    TooLong,
    /// A list or map has too many elements.
    TooMany,
}

impl Fault {
    /// `reason` of a status cause.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Fault::Invalid => "FieldValueInvalid",
            Fault::TypeInvalid => "FieldValueTypeInvalid",
            Fault::Required => "FieldValueRequired",
            Fault::NotSupported => "FieldValueNotSupported",
            Fault::Forbidden => "FieldValueForbidden",
            Fault::Duplicate => "FieldValueDuplicate",
            Fault::TooLong => "FieldValueTooLong",
            Fault::TooMany => "FieldValueTooMany",
        }
    }

    fn head(self) -> &'static str {
        match self {
            Fault::Invalid | Fault::TypeInvalid => "Invalid value",
            Fault::Required => "Required value",
            Fault::NotSupported => "Unsupported value",
            Fault::Forbidden => "Forbidden",
            Fault::Duplicate => "Duplicate value",
            Fault::TooLong => "Too long",
            Fault::TooMany => "Too many",
        }
    }
}

/// One fault of one field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// What kind of fault.
    pub fault: Fault,
    /// Path of the field, as in `spec.steps[0].replicas`; `<nil>` where Kubernetes names none.
    pub field: String,
    /// The value, where the message shows it.
    pub value: Option<Value>,
    /// What is wrong; may be empty.
    pub detail: String,
}

impl FieldError {
    pub(crate) fn invalid(field: &str, value: &Value, detail: impl Into<String>) -> Self {
        Self::new(Fault::Invalid, field, Some(value.clone()), detail)
    }

    pub(crate) fn required(field: &str) -> Self {
        Self::new(Fault::Required, field, None, "")
    }

    pub(crate) fn new(
        fault: Fault,
        field: &str,
        value: Option<Value>,
        detail: impl Into<String>,
    ) -> Self {
        let field = if field.is_empty() { "<nil>" } else { field };
        Self { fault, field: field.to_owned(), value, detail: detail.into() }
    }

    /// The message without the path: that of a status cause.
    #[must_use]
    pub fn message(&self) -> String {
        let mut message = self.fault.head().to_owned();
        for part in [self.value.as_ref().map(Value::to_string), Some(self.detail.clone())]
            .into_iter()
            .flatten()
        {
            if !part.is_empty() {
                message.push_str(": ");
                message.push_str(&part);
            }
        }
        message
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message())
    }
}
