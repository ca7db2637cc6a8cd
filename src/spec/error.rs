//! What is wrong with what a user wrote: where, what stands there, and what to write instead.

use std::fmt::Display;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// It cannot be meant.
    #[error("{path}: {value}: {remedy}")]
    Invalid {
        /// Where, for example `spec.strategy.canary.steps[2].traffic`.
        path: String,
        /// What stands there, as JSON.
        value: String,
        /// What it must be.
        remedy: String,
    },
    /// It is part of the API, but nothing would be done with it yet.
    #[error("{path}: {value}: not supported yet: {remedy}")]
    Unsupported {
        /// Where.
        path: String,
        /// What stands there, as JSON.
        value: String,
        /// What to do without it.
        remedy: String,
    },
}

impl SpecError {
    /// Where it is wrong.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::Invalid { path, .. } | Self::Unsupported { path, .. } => path,
        }
    }

    /// What stands there, as JSON, shortened.
    #[must_use]
    pub fn value(&self) -> &str {
        match self {
            Self::Invalid { value, .. } | Self::Unsupported { value, .. } => value,
        }
    }

    /// What to write instead.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Invalid { remedy, .. } => remedy.clone(),
            Self::Unsupported { remedy, .. } => format!("not supported yet: {remedy}"),
        }
    }
}

/// The errors of one object, in the order of its fields.
#[derive(Debug, Default)]
pub(crate) struct Errors(Vec<SpecError>);

/// The longest value that is repeated in a message.
const SHOWN: usize = 60;

impl Errors {
    pub(crate) fn invalid(
        &mut self,
        path: impl Into<String>,
        value: &impl serde::Serialize,
        remedy: impl Display,
    ) {
        let (path, value, remedy) = (path.into(), shown(value), remedy.to_string());
        self.0.push(SpecError::Invalid { path, value, remedy });
    }

    pub(crate) fn unsupported(
        &mut self,
        path: impl Into<String>,
        value: &impl serde::Serialize,
        remedy: impl Display,
    ) {
        let (path, value, remedy) = (path.into(), shown(value), remedy.to_string());
        self.0.push(SpecError::Unsupported { path, value, remedy });
    }

    pub(crate) fn extend(&mut self, more: Vec<SpecError>) {
        self.0.extend(more);
    }

    pub(crate) fn into_inner(self) -> Vec<SpecError> {
        self.0
    }

    /// `value`, unless something was noted.
    pub(crate) fn finish<T>(self, value: T) -> Result<T, Vec<SpecError>> {
        if self.0.is_empty() { Ok(value) } else { Err(self.0) }
    }
}

fn shown(value: &impl serde::Serialize) -> String {
    let text = serde_json::to_string(value).unwrap_or_else(|_| "a value that is no JSON".into());
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
