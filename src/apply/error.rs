//! What a refused or failed write means.

/// A write that did not happen, or whose answer was lost.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The API server refused it.
    #[error("{what}: {reason}: {message}")]
    Refused {
        /// What was tried.
        what: String,
        /// HTTP status.
        code: u16,
        /// The server's reason.
        reason: String,
        /// The server's words.
        message: String,
    },
    /// No answer: the write may have happened or not.
    #[error("{what}: no answer from the API server")]
    NoAnswer {
        /// What was tried.
        what: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// No answer in time: the write may have happened or not.
    #[error("{what}: no answer from the API server in {}s", after.as_secs())]
    Late {
        /// What was tried.
        what: String,
        /// How long was waited.
        after: std::time::Duration,
    },
    /// An answer or an object that cannot be read.
    #[error("{what}: the object cannot be written or read as JSON")]
    Encoding {
        /// What was tried.
        what: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Try again with a delay.
    Transient,
    /// Somebody else wrote: look again at once.
    Conflict,
    /// The same write will be refused again: wait for a person.
    Invalid,
    /// A permission is missing.
    Forbidden,
    /// The kind or the object does not exist.
    Missing,
}

impl ApplyError {
    pub(crate) fn from_kube(what: &str, error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Refused {
                what: what.to_owned(),
                code: status.code,
                reason: status.reason,
                message: status.message,
            },
            kube::Error::SerdeError(source) => Self::Encoding { what: what.to_owned(), source },
            other => Self::NoAnswer { what: what.to_owned(), source: Box::new(other) },
        }
    }

    /// The HTTP status, when there was an answer.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::NoAnswer { .. } | Self::Late { .. } | Self::Encoding { .. } => None,
        }
    }

    /// How its sentence begins: which write it was, and the server's reason.
    #[must_use]
    pub fn head(&self) -> String {
        match self {
            Self::Refused { what, reason, .. } => format!("{what}: {reason}"),
            Self::NoAnswer { what, .. } | Self::Late { what, .. } | Self::Encoding { what, .. } => {
                what.clone()
            }
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn class(&self) -> Class {
        match self.code() {
            None | Some(401 | 429 | 500..) => Class::Transient,
            Some(403) => Class::Forbidden,
            Some(404 | 410) => Class::Missing,
            Some(409) => Class::Conflict,
            Some(_) => Class::Invalid,
        }
    }

    /// The sentence for the object: what was tried, what came back, what to do.
    #[must_use]
    pub fn advice(&self) -> String {
        let remedy = match self.class() {
            Class::Transient => "it is tried again",
            Class::Conflict => "somebody else wrote in between: it is planned again",
            Class::Invalid => "correct the object or the policy that refuses it",
            Class::Forbidden => {
                "give the controller's account that permission (charts/sluice, RBAC)"
            }
            Class::Missing => "install what is missing",
        };
        format!("{self}; {remedy}")
    }
}
