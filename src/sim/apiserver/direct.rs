//! Short forms of [`ApiServer::call`] for code in the same process. The resource follows from the
//! object's `apiVersion` and `kind`, the namespace and name from its metadata.

use std::sync::Arc;

use serde_json::Value;

use super::{
    ApiServer, ApiStatus, Call, PatchType, Refusable, ResourceKey, Verb,
    fields::{meta, text},
};

impl ApiServer {
    /// Creates an object.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn create(&self, user: &str, object: Value) -> Refusable<Value> {
        self.send(user, Verb::Create, None, object).map(Arc::unwrap_or_clone)
    }

    /// Replaces an object; its `metadata.resourceVersion`, if set, must be the stored one.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn update(&self, user: &str, object: Value) -> Refusable<Value> {
        self.send(user, Verb::Update, None, object).map(Arc::unwrap_or_clone)
    }

    /// Replaces an object's status.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn update_status(&self, user: &str, object: Value) -> Refusable<Value> {
        self.send(user, Verb::Update, Some("status"), object).map(Arc::unwrap_or_clone)
    }

    /// Creates or replaces an object or its status; the answer is not copied.
    pub(in crate::sim) fn send(
        &self,
        user: &str,
        verb: Verb,
        subresource: Option<&str>,
        object: Value,
    ) -> Refusable<Arc<Value>> {
        let mut call = self.about(user, verb, &object)?;
        call.subresource = subresource.map(str::to_owned);
        call.name = call.name.filter(|_| verb != Verb::Create);
        self.handle(call.body(object)).map(|reply| reply.value)
    }

    /// Applies an object from the server's side.
    ///
    /// # Errors
    /// The server's refusal; conflicts with other managers unless `force`.
    pub fn apply(&self, user: &str, manager: &str, force: bool, object: Value) -> Refusable<Value> {
        let call = self.about(user, Verb::Patch(PatchType::Apply), &object)?.manager(manager);
        let call = if force { call.force() } else { call };
        self.call(call.body(object))
    }

    /// Merges a patch (RFC 7386) into an object.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn patch_merge(
        &self,
        user: &str,
        resource: &ResourceKey,
        namespace: &str,
        name: &str,
        patch: Value,
    ) -> Refusable<Value> {
        let verb = Verb::Patch(PatchType::Merge);
        self.call(Call::new(user, verb, resource).namespace(namespace).name(name).body(patch))
    }

    /// Merges a patch (RFC 7386) into an object's status; the patch has `status` at its top.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn patch_status(
        &self,
        user: &str,
        resource: &ResourceKey,
        namespace: &str,
        name: &str,
        patch: Value,
    ) -> Refusable<Value> {
        let call = Call::new(user, Verb::Patch(PatchType::Merge), resource);
        self.call(call.namespace(namespace).name(name).subresource("status").body(patch))
    }

    /// Deletes an object in the background.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn delete(
        &self,
        user: &str,
        resource: &ResourceKey,
        namespace: &str,
        name: &str,
    ) -> Refusable<Value> {
        self.call(Call::new(user, Verb::Delete, resource).namespace(namespace).name(name))
    }

    fn about(&self, user: &str, verb: Verb, object: &Value) -> Refusable<Call> {
        let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
        let Some((resource, namespaced)) = self.served(version, kind) else {
            let message = format!("no matches for kind \"{kind}\" in version \"{version}\"");
            return Err(ApiStatus::new(404, "NotFound", message));
        };
        let namespace = match meta(object, "namespace") {
            "" if namespaced => "default",
            given => given,
        };
        let call = Call::new(user, verb, &resource).namespace(namespace);
        Ok(call.name(meta(object, "name")))
    }

    fn served(&self, version: &str, kind: &str) -> Option<(ResourceKey, bool)> {
        let state = self.lock();
        state.kinds.of_kind(version, kind).map(|kind| (kind.key.clone(), kind.namespaced))
    }
}
