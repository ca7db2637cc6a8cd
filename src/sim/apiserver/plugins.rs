//! The plug points of a write: what schemas and admission policies do to an object on its way in.
//!
//! Order: decode, `prune`, `default`, field ownership, `mutate`, the kind's own rules (generation,
//! status split), `validate`, persist. The server's lock is held meanwhile, so
//! a plug point reads the store through [`Write::store`] and never through the server.

use std::sync::Arc;

use serde_json::Value;

use super::{Call, Refusable, ResourceKey, state::State};

/// One write on its way to the store.
pub struct Write<'a> {
    /// The request.
    pub call: &'a Call,
    /// CREATE or UPDATE: what the write turned out to be (an apply may be either).
    pub operation: Operation,
    /// The resource in the version of the request.
    pub resource: &'a ResourceKey,
    /// Kind of the object that is written; `Scale` for the scale subresource.
    pub kind: &'a str,
    /// Groups of the user.
    pub groups: &'a [String],
    /// What is stored now, in the version of the request; `None` for a CREATE.
    pub old: Option<&'a Value>,
    /// The definition of a custom resource; `None` for a built-in kind.
    pub crd: Option<&'a Arc<Value>>,
    /// Everything that is stored.
    pub store: Reader<'a>,
}

/// What a write does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A new object.
    Create,
    /// A change of a stored one.
    Update,
}

/// Read access to the store for plug points.
#[derive(Clone, Copy)]
pub struct Reader<'a>(pub(super) &'a State);

impl Reader<'_> {
    /// One object, in the version that `resource` names.
    #[must_use]
    pub fn get(&self, resource: &ResourceKey, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.0.get(resource, namespace, name)
    }

    /// All objects of a resource, in one namespace or in all, sorted by namespace and name.
    #[must_use]
    pub fn list(&self, resource: &ResourceKey, namespace: Option<&str>) -> Vec<Arc<Value>> {
        self.0.list(resource, namespace)
    }

    /// The resource that serves a kind, such as `apps/v1`, `Deployment`.
    #[must_use]
    pub fn resource_of(&self, api_version: &str, kind: &str) -> Option<ResourceKey> {
        self.0.kinds.of_kind(api_version, kind).map(|kind| kind.key.clone())
    }
}

/// Drops what the schema does not know; answers with the paths that it dropped.
pub type Prune = Box<dyn Fn(&Write<'_>, &mut Value) -> Vec<String> + Send + Sync>;
/// Changes the object, or refuses it. What it changes it also defaults.
pub type Mutate = Box<dyn Fn(&Write<'_>, &mut Value) -> Refusable<()> + Send + Sync>;
/// Fills in defaults.
pub type Default = Box<dyn Fn(&Write<'_>, &mut Value) + Send + Sync>;
/// Refuses what is invalid; answers with what it warns of.
pub type Validate = Box<dyn Fn(&Write<'_>, &Value) -> Refusable<Vec<String>> + Send + Sync>;

/// The plug points. They may keep caches of their own.
pub struct Plugins {
    /// Schema: unknown fields.
    pub prune: Prune,
    /// Schema and built-in kinds: defaults.
    pub default: Default,
    /// Mutating admission policies.
    pub mutate: Mutate,
    /// Schema, CEL rules of schemas, validating policies.
    pub validate: Validate,
}

impl Plugins {
    /// Plug points that do nothing.
    #[must_use]
    pub fn none() -> Self {
        Self {
            prune: Box::new(|_, _| Vec::new()),
            default: Box::new(|_, _| ()),
            mutate: Box::new(|_, _| Ok(())),
            validate: Box::new(|_, _| Ok(Vec::new())),
        }
    }
}
