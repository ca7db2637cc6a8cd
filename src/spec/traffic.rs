//! Which Services and routes follow the steps, checked.

use jiff::SignedDuration;

use super::error::Errors;
use crate::api::rollout::{GatewayRef, TrafficRoutingRef};

/// A Service and the HTTPRoutes in front of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficRouting {
    /// The Service that selects the workload's pods.
    pub service: String,
    /// The HTTPRoutes, at least one, each once.
    pub http_routes: Vec<String>,
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
        if let Some(ingress) = ingress {
            let remedy = "only Gateway API HTTPRoutes are moved; use gateway.httpRouteName";
            errors.unsupported(format!("{path}.ingress"), ingress, remedy);
        }
        if !custom_network_refs.is_empty() {
            let remedy = "only Gateway API HTTPRoutes are moved; use gateway.httpRouteName";
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
        let (http_routes, rule_name) = match gateway {
            Some(gateway) => routes(gateway, &format!("{path}.gateway"), errors),
            None => (Vec::new(), None),
        };
        Self {
            service: service.clone(),
            http_routes,
            rule_name,
            grace: SignedDuration::from_secs(grace.into()),
        }
    }
}

fn routes(gateway: &GatewayRef, path: &str, errors: &mut Errors) -> (Vec<String>, Option<String>) {
    let GatewayRef { http_route_name, http_route_names, grpc_route_names, rule_name } = gateway;
    if !grpc_route_names.is_empty() {
        let remedy = "only HTTPRoutes are moved; use httpRouteNames";
        errors.unsupported(format!("{path}.grpcRouteNames"), grpc_route_names, remedy);
    }
    let mut names: Vec<String> = Vec::new();
    for name in http_route_name.iter().chain(http_route_names) {
        if name.is_empty() {
            errors.invalid(
                path,
                gateway,
                "must not name an empty route; write the HTTPRoute's name",
            );
        } else if !names.contains(name) {
            names.push(name.clone());
        }
    }
    if names.is_empty() && grpc_route_names.is_empty() {
        errors.invalid(path, gateway, "must name a route; write httpRouteName: NAME");
    }
    (names, rule_name.clone())
}
