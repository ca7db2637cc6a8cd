//! Which Services and routes follow the steps, checked.

use std::fmt;

use jiff::SignedDuration;

use super::error::Errors;
use crate::api::rollout::{GatewayRef, TrafficRoutingRef};

/// The longest name that `-canary` can follow in the name of a Service.
const SERVICE_LENGTH: usize = 56;

/// The words of the schema's rule.
const SERVICE_TOO_LONG: &str =
    "service may have 56 characters at most: the Service NAME-canary beside it may have 63";

/// A route of the Gateway API, in the Rollout's namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteRef {
    /// Its kind.
    pub kind: RouteKind,
    /// Its name.
    pub name: String,
}

/// The kinds of routes that are split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteKind {
    /// `HTTPRoute`.
    Http,
    /// `GRPCRoute`.
    Grpc,
}

impl RouteRef {
    /// What it is kept under among routes of both kinds: an HTTPRoute's name, and for a GRPCRoute what
    /// can be no name.
    #[must_use]
    pub fn key(&self) -> String {
        match self.kind {
            RouteKind::Http => self.name.clone(),
            RouteKind::Grpc => format!("GRPCRoute/{}", self.name),
        }
    }
}

impl fmt::Display for RouteRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            RouteKind::Http => "HTTPRoute",
            RouteKind::Grpc => "GRPCRoute",
        };
        write!(f, "{kind} {}", self.name)
    }
}

/// A Service and the routes in front of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficRouting {
    /// The Service that selects the workload's pods.
    pub service: String,
    /// The routes, at least one, each once.
    pub routes: Vec<RouteRef>,
    /// Only the rule of this name is split. `None`: every rule that names the Service.
    pub rule_name: Option<String>,
    /// How long to wait after the router has accepted a change.
    pub grace: SignedDuration,
}

impl TrafficRouting {
    /// Checks `routing`, which stands at `path`.
    pub(crate) fn parse(routing: &TrafficRoutingRef, path: &str, errors: &mut Errors) -> Self {
        let TrafficRoutingRef {
            service,
            grace_period_seconds,
            gateway,
            ingress,
            custom_network_refs,
        } = routing;
        if service.is_empty() {
            let remedy = "must be the name of the Service that selects the workload's pods";
            errors.invalid(format!("{path}.service"), service, remedy);
        }
        if service.len() > SERVICE_LENGTH {
            errors.invalid(format!("{path}.service"), service, SERVICE_TOO_LONG);
        }
        if let Some(ingress) = ingress {
            let remedy = "only routes of the Gateway API are moved; use gateway.httpRouteName";
            errors.unsupported(format!("{path}.ingress"), ingress, remedy);
        }
        if !custom_network_refs.is_empty() {
            let remedy = "only routes of the Gateway API are moved; use gateway.httpRouteName";
            errors.unsupported(format!("{path}.customNetworkRefs"), custom_network_refs, remedy);
        }
        if gateway.is_none() && ingress.is_none() && custom_network_refs.is_empty() {
            let remedy = "must name at least one router; write gateway: {httpRouteName: NAME}";
            errors.invalid(path, routing, remedy);
        }
        let grace = grace_period_seconds.unwrap_or(0);
        if grace < 0 {
            let remedy = "must be 0 or more seconds";
            errors.invalid(format!("{path}.gracePeriodSeconds"), &grace, remedy);
        }
        let (routes, rule_name) = match gateway {
            Some(gateway) => named(gateway, &format!("{path}.gateway"), errors),
            None => (Vec::new(), None),
        };
        Self {
            service: service.clone(),
            routes,
            rule_name,
            grace: SignedDuration::from_secs(grace.into()),
        }
    }
}

fn named(gateway: &GatewayRef, path: &str, errors: &mut Errors) -> (Vec<RouteRef>, Option<String>) {
    let GatewayRef { http_route_name, http_route_names, grpc_route_names, rule_name } = gateway;
    let http = http_route_name.iter().chain(http_route_names).map(|n| (RouteKind::Http, n));
    let grpc = grpc_route_names.iter().map(|n| (RouteKind::Grpc, n));
    let mut routes: Vec<RouteRef> = Vec::new();
    for (kind, name) in http.chain(grpc) {
        let route = RouteRef { kind, name: name.clone() };
        if name.is_empty() {
            let remedy = "must not name an empty route; write the route's name";
            errors.invalid(path, gateway, remedy);
        } else if !routes.contains(&route) {
            routes.push(route);
        }
    }
    let nothing =
        http_route_name.is_none() && http_route_names.is_empty() && grpc_route_names.is_empty();
    if nothing {
        errors.invalid(path, gateway, "must name a route; write httpRouteName: NAME");
    }
    (routes, rule_name.clone())
}
