//! The Gateway controller on the in-memory API server: follows changes, writes statuses and hands
//! out the [`View`]. Synchronous, so that virtual time can drive it too.

use std::sync::Arc;

use serde_json::{Value, json};

use super::status::{Surroundings, class_status, gateway_status, parents_status};
use super::table::{namespace_of, text};
use super::view::{GATEWAY_CLASSES, GATEWAYS, GRPC_ROUTES, HTTP_ROUTES, Objects, View};
use crate::sim::apiserver::{ApiServer, ApiStatus, Change, ResourceKey};

/// The name under which the statuses are written.
const USER: &str = "system:serviceaccount:kube-system:gateway";

/// Keeps a view current and the statuses written.
pub struct Controller {
    server: ApiServer,
    address: String,
    seen: Option<u64>,
    view: Arc<View>,
}

impl Controller {
    /// A controller of the Gateways that are reachable at `address`.
    #[must_use]
    pub fn new(server: ApiServer, address: &str) -> Self {
        Self { server, address: address.to_owned(), seen: None, view: Arc::default() }
    }

    /// The view as of the last [`Self::sync`].
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.view.clone()
    }

    /// Catches up with the server: a new view if anything it reads has changed, and the statuses
    /// that follow from it. True if a status was written.
    ///
    /// # Errors
    /// A status that the server refused for another reason than a concurrent delete; the next call
    /// tries again.
    pub fn sync(&mut self) -> Result<bool, Box<ApiStatus>> {
        self.sync_with(|_| {})
    }

    /// As [`Self::sync`]; a new view is handed to `publish` before any status is written.
    pub(super) fn sync_with(
        &mut self,
        publish: impl FnOnce(&Arc<View>),
    ) -> Result<bool, Box<ApiStatus>> {
        let now = self.server.resource_version();
        let is_due = match self.seen {
            None => true,
            Some(seen) => self.server.changes_since(seen).iter().any(is_read_here),
        };
        if !is_due {
            self.seen = Some(now);
            return Ok(false);
        }
        let objects = Objects::read(&self.server);
        self.view = Arc::new(View::new(&objects));
        publish(&self.view);
        self.write_statuses(&objects)?;
        self.seen = Some(now);
        Ok(self.server.resource_version() != now)
    }

    fn write_statuses(&self, objects: &Objects) -> Result<(), Box<ApiStatus>> {
        let now = self.server.now();
        let gateways = objects.own_gateways();
        for class in objects.own_classes() {
            self.write(&GATEWAY_CLASSES, class, class_status(class, now))?;
        }
        let routes: Vec<&Value> = objects.routes.iter().map(AsRef::as_ref).collect();
        for gateway in &gateways {
            let status = gateway_status(gateway, &routes, &self.address, now);
            self.write(&GATEWAYS, gateway, status)?;
        }
        let exists = |backend: &super::Backend| self.view.exists(backend);
        let around = Surroundings { gateways: &gateways, exists: &exists, now };
        for route in routes {
            self.write(&HTTP_ROUTES, route, parents_status(route, &around))?;
        }
        for route in &objects.grpc_routes {
            self.write(&GRPC_ROUTES, route, parents_status(route, &around))?;
        }
        Ok(())
    }

    fn write(
        &self,
        resource: &ResourceKey,
        object: &Value,
        status: Value,
    ) -> Result<(), Box<ApiStatus>> {
        let known = &object["status"];
        let nothing = status == json!({"parents": []}) && known.is_null();
        let is_same = status.as_object().is_some_and(|s| s.iter().all(|(k, v)| known[k] == *v));
        if nothing || is_same {
            return Ok(());
        }
        let namespace = match object["metadata"]["namespace"] {
            Value::Null => String::new(),
            _ => namespace_of(object),
        };
        let name = text(&object["metadata"]["name"]);
        let patch = json!({"status": status});
        match self.server.patch_status(USER, resource, &namespace, &name, patch) {
            Err(refusal) if refusal.code != 404 => Err(refusal),
            _ => Ok(()),
        }
    }
}

fn is_read_here(change: &Change) -> bool {
    matches!(
        change.resource.plural.as_ref(),
        "gatewayclasses" | "gateways" | "httproutes" | "grpcroutes" | "services" | "endpointslices"
    )
}
