//! What the API server knows about the shape of objects: schemas of custom resources, and the
//! defaults and rules of the built-in kinds that Sluice touches.
//!
//! Functions over plain JSON, with the words and shapes of Kubernetes 1.36: [`default`], [`prune`],
//! [`validate`] take the `openAPIV3Schema` of a version; [`builtin`] is the same for built-in
//! kinds. There is no schema of the built-in kinds: their unknown fields pass.

pub mod builtin;
mod error;
mod rules;
mod structural;
mod validate;

#[cfg(test)]
mod tests;

use serde_json::Value;

pub use error::{Fault, FieldError};
pub use structural::{default, prune, unknown_fields};
pub use validate::validate;

/// The schema of one version of a CustomResourceDefinition.
#[must_use]
pub fn of_version<'c>(crd: &'c Value, version: &str) -> Option<&'c Value> {
    let versions = crd.get("spec")?.get("versions")?.as_array()?;
    let found = versions.iter().find(|entry| entry.get("name").is_some_and(|n| n == version))?;
    found.get("schema")?.get("openAPIV3Schema")
}
