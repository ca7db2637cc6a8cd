//! One request to the API server as JSON in and JSON out.

use std::time::Duration;

use http::{Method, Request};
use serde_json::Value;

use super::error::ApplyError;

/// A request without an answer after this long is given up: the server may have done it or not.
const PATIENCE: Duration = Duration::from_secs(30);

/// The API server's answer.
pub type Answer = Result<Value, ApplyError>;

/// A request in parts; sent by [`Http::send`].
#[derive(Clone, Debug)]
pub struct Http {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    content_type: &'static str,
    body: Option<Value>,
}

impl Http {
    fn new(method: Method, path: String, content_type: &'static str, body: Option<Value>) -> Self {
        let query = match method {
            Method::POST | Method::PUT | Method::PATCH => {
                vec![("fieldManager", crate::api::FIELD_MANAGER.to_owned())]
            }
            _ => Vec::new(),
        };
        Self { method, path, query, content_type, body }
    }

    /// Reads an object.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path.into(), "application/json", None)
    }

    /// Creates an object in a collection.
    #[must_use]
    pub fn post(path: impl Into<String>, body: Value) -> Self {
        Self::new(Method::POST, path.into(), "application/json", Some(body))
    }

    /// Replaces an object.
    #[must_use]
    pub fn put(path: impl Into<String>, body: Value) -> Self {
        Self::new(Method::PUT, path.into(), "application/json", Some(body))
    }

    /// Merges into an object.
    #[must_use]
    pub fn merge(path: impl Into<String>, body: Value) -> Self {
        let kind = "application/merge-patch+json";
        Self::new(Method::PATCH, path.into(), kind, Some(body))
    }

    /// Edits an object by a JSON patch.
    #[must_use]
    pub fn json_patch(path: impl Into<String>, body: Value) -> Self {
        Self::new(Method::PATCH, path.into(), "application/json-patch+json", Some(body))
    }

    /// Applies an object server-side and takes its fields over.
    #[must_use]
    pub fn server_side_apply(path: impl Into<String>, body: Value) -> Self {
        let kind = "application/apply-patch+yaml";
        let mut out = Self::new(Method::PATCH, path.into(), kind, Some(body));
        out.query.push(("force", "true".into()));
        out
    }

    /// Deletes an object.
    #[must_use]
    pub fn delete(path: impl Into<String>, body: Value) -> Self {
        Self::new(Method::DELETE, path.into(), "application/json", Some(body))
    }

    /// Nothing is stored.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.query.push(("dryRun", "All".into()));
        self
    }

    /// Sends it.
    ///
    /// # Errors
    /// The server refused, did not answer, or said what cannot be read.
    pub async fn send(self, client: &kube::Client) -> Answer {
        let what = format!("{} {}", self.method, self.path);
        let query: Vec<String> = self.query.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let mut uri = self.path;
        if !query.is_empty() {
            uri = format!("{uri}?{}", query.join("&"));
        }
        let body = match &self.body {
            Some(value) => serde_json::to_vec(value)
                .map_err(|source| ApplyError::Encoding { what: what.clone(), source })?,
            None => Vec::new(),
        };
        let request = Request::builder()
            .method(self.method)
            .uri(uri)
            .header(http::header::CONTENT_TYPE, self.content_type)
            .header(http::header::ACCEPT, "application/json")
            .body(body)
            .map_err(|e| ApplyError::NoAnswer {
                what: what.clone(),
                source: Box::new(kube::Error::HttpError(e)),
            })?;
        match tokio::time::timeout(PATIENCE, client.request::<Value>(request)).await {
            Ok(answer) => answer.map_err(|e| ApplyError::from_kube(&what, e)),
            Err(_) => Err(ApplyError::Late { what, after: PATIENCE }),
        }
    }
}

/// The path of a namespaced collection or object.
#[must_use]
pub(crate) fn path(group_version: &str, namespace: &str, plural: &str, name: &str) -> String {
    let root = if group_version.contains('/') { "/apis" } else { "/api" };
    let tail = if name.is_empty() { String::new() } else { format!("/{name}") };
    format!("{root}/{group_version}/namespaces/{namespace}/{plural}{tail}")
}
