//! What the gateway knows of the cluster at one moment: the table of routes and the endpoints of
//! every Service port.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde_json::Value;

use super::matching::Request;
use super::status::{CONTROLLER, is_attached};
use super::table::{Backend, Outcome, RouteDecision, Rule, Table, list, namespace_of, text};
use crate::sim::apiserver::{ApiServer, ResourceKey};

/// `gateway.networking.k8s.io/v1/gatewayclasses`.
pub(super) const GATEWAY_CLASSES: ResourceKey =
    ResourceKey::of("gateway.networking.k8s.io", "v1", "gatewayclasses");
/// `gateway.networking.k8s.io/v1/gateways`.
pub(super) const GATEWAYS: ResourceKey =
    ResourceKey::of("gateway.networking.k8s.io", "v1", "gateways");
/// `gateway.networking.k8s.io/v1/httproutes`.
pub(super) const HTTP_ROUTES: ResourceKey =
    ResourceKey::of("gateway.networking.k8s.io", "v1", "httproutes");
/// `gateway.networking.k8s.io/v1/grpcroutes`: accepted like the others; no gRPC request is simulated.
pub const GRPC_ROUTES: ResourceKey =
    ResourceKey::of("gateway.networking.k8s.io", "v1", "grpcroutes");

/// A pod that can take requests.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Its address and port.
    pub address: SocketAddr,
    /// Namespace and name of the pod.
    pub pod: (String, String),
}

/// The objects that the gateway reads.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// GatewayClasses.
    pub classes: Vec<Arc<Value>>,
    /// Gateways.
    pub gateways: Vec<Arc<Value>>,
    /// HTTPRoutes.
    pub routes: Vec<Arc<Value>>,
    /// GRPCRoutes.
    pub grpc_routes: Vec<Arc<Value>>,
    /// Services.
    pub services: Vec<Arc<Value>>,
    /// EndpointSlices.
    pub slices: Vec<Arc<Value>>,
}

impl Objects {
    /// Reads them from the in-memory API server.
    #[must_use]
    pub fn read(server: &ApiServer) -> Self {
        Self {
            classes: server.list(&GATEWAY_CLASSES, None),
            gateways: server.list(&GATEWAYS, None),
            routes: server.list(&HTTP_ROUTES, None),
            grpc_routes: server.list(&GRPC_ROUTES, None),
            services: server.list(&ResourceKey::SERVICES, None),
            slices: server.list(&ResourceKey::ENDPOINTSLICES, None),
        }
    }

    /// The GatewayClasses that name our controller.
    pub(super) fn own_classes(&self) -> impl Iterator<Item = &Arc<Value>> {
        self.classes.iter().filter(|class| class["spec"]["controllerName"] == CONTROLLER)
    }

    /// The Gateways of our classes.
    pub(super) fn own_gateways(&self) -> Vec<&Value> {
        let names: BTreeSet<String> =
            self.own_classes().map(|class| text(&class["metadata"]["name"])).collect();
        let own = self
            .gateways
            .iter()
            .filter(|gateway| names.contains(&text(&gateway["spec"]["gatewayClassName"])));
        own.map(AsRef::as_ref).collect()
    }
}

/// Routes and endpoints, ready for requests.
#[derive(Debug, Clone, Default)]
pub struct View {
    table: Table,
    endpoints: BTreeMap<Backend, Vec<Endpoint>>,
}

impl View {
    /// The view of these objects; only routes that one of our Gateways accepts count.
    #[must_use]
    pub fn new(objects: &Objects) -> Self {
        let gateways = objects.own_gateways();
        let routes = objects.routes.iter().map(AsRef::as_ref);
        let table = Table::new(routes.filter(|route| is_attached(route, &gateways)));
        let mut endpoints = BTreeMap::new();
        for service in &objects.services {
            for port in list(&service["spec"]["ports"]) {
                let number = port["port"].as_u64().and_then(|p| u16::try_from(p).ok());
                let backend = Backend {
                    namespace: namespace_of(service),
                    service: text(&service["metadata"]["name"]),
                    port: number.unwrap_or_default(),
                };
                let ready = ready_endpoints(&objects.slices, &backend, &text(&port["name"]));
                endpoints.insert(backend, ready);
            }
        }
        Self { table, endpoints }
    }

    /// Routes one request.
    #[must_use]
    pub fn route(&self, request: &Request<'_>, random: u64) -> RouteDecision {
        self.table.route(request, random, |backend| self.exists(backend))
    }

    /// The rule that a request falls under, for callers that send many of a kind.
    #[must_use]
    pub fn rule(&self, request: &Request<'_>) -> Option<Arc<Rule>> {
        self.table.find(request).cloned()
    }

    /// What happens to one request under a rule of [`Self::rule`].
    #[must_use]
    pub fn follow(&self, rule: Option<Arc<Rule>>, random: u64) -> RouteDecision {
        RouteDecision::of(rule, random, |backend| self.exists(backend))
    }

    /// Whether a Service has this port.
    #[must_use]
    pub fn exists(&self, backend: &Backend) -> bool {
        self.endpoints.contains_key(backend)
    }

    /// The ready endpoints of a Service port, in the order of their addresses.
    #[must_use]
    pub fn ready(&self, backend: &Backend) -> &[Endpoint] {
        self.endpoints.get(backend).map_or(&[], Vec::as_slice)
    }

    /// The endpoint of one request and the backend it was routed to, for callers that need no
    /// retries: `turn` picks among the ready ones.
    #[must_use]
    pub fn endpoint(&self, decision: &RouteDecision, turn: usize) -> Option<&Endpoint> {
        let Outcome::Forward(share) = &decision.outcome else { return None };
        let ready = self.ready(&share.backend);
        ready.get(turn.checked_rem(ready.len())?)
    }
}

fn ready_endpoints(slices: &[Arc<Value>], backend: &Backend, port: &str) -> Vec<Endpoint> {
    let mut ready = Vec::new();
    let of_service = slices.iter().filter(|slice| {
        slice["metadata"]["labels"]["kubernetes.io/service-name"] == backend.service.as_str()
            && namespace_of(slice) == backend.namespace
    });
    for slice in of_service {
        let number = list(&slice["ports"])
            .iter()
            .find(|p| p["name"].as_str().unwrap_or_default() == port)
            .and_then(|p| p["port"].as_u64())
            .and_then(|p| u16::try_from(p).ok());
        let Some(number) = number else { continue };
        for endpoint in list(&slice["endpoints"]) {
            // An unset condition means ready, as the API says.
            let is_ready = endpoint["conditions"]["ready"].as_bool().unwrap_or(true);
            let first = list(&endpoint["addresses"]).first().and_then(Value::as_str);
            let address = first.and_then(|a| a.parse::<IpAddr>().ok());
            let (true, Some(address)) = (is_ready, address) else { continue };
            let pod = (backend.namespace.clone(), text(&endpoint["targetRef"]["name"]));
            ready.push(Endpoint { address: SocketAddr::new(address, number), pod });
        }
    }
    ready.sort();
    ready.dedup();
    ready
}
