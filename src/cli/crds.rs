//! `sluice crds`: the custom resource definitions, to be piped into `kubectl apply -f -`.

use crate::api::crds;

/// Every definition, as one YAML stream.
#[must_use]
pub fn yaml() -> String {
    let documents: Vec<String> = crds::all().iter().map(crds::yaml).collect();
    documents.join("---\n")
}
