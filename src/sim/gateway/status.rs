//! What a Gateway controller writes: the status of HTTPRoutes, Gateways and GatewayClasses. Pure,
//! so that the in-process gateway and a writer on a real API server say the same.

use serde_json::{Value, json};

use super::matching::covers;
use super::table::{Backend, Table, list, namespace_of, text};

/// The controller name that our GatewayClass carries.
pub const CONTROLLER: &str = "sluice.dev/gateway";

/// What the status of a route depends on beside the route.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// The Gateways of our class.
    pub gateways: &'a [&'a Value],
    /// Whether a Service has this port.
    pub exists: &'a dyn Fn(&Backend) -> bool,
    /// The time of a changed condition.
    pub now: jiff::Timestamp,
}

/// The `status` of an HTTPRoute: one entry for each of its parents that is ours, the entries of
/// other controllers untouched. Conditions keep their transition time while their status stays.
#[must_use]
pub fn parents_status(route: &Value, around: &Surroundings<'_>) -> Value {
    let known = list(&route["status"]["parents"]);
    let mut parents: Vec<Value> =
        known.iter().filter(|p| p["controllerName"] != CONTROLLER).cloned().collect();
    for reference in list(&route["spec"]["parentRefs"]) {
        let Some(gateway) = gateway_of(route, reference, around.gateways) else { continue };
        let before = known
            .iter()
            .find(|p| p["controllerName"] == CONTROLLER && p["parentRef"] == *reference)
            .map_or(&Value::Null, |p| &p["conditions"]);
        let (accepted, resolved) = (accepted(route, reference, gateway), resolved(route, around));
        parents.push(json!({
            "parentRef": reference,
            "controllerName": CONTROLLER,
            "conditions": [
                condition("Accepted", &accepted, route, before, around.now),
                condition("ResolvedRefs", &resolved, route, before, around.now),
            ],
        }));
    }
    json!({ "parents": parents })
}

/// True, or false with a reason and a message.
type Finding = Result<&'static str, (&'static str, String)>;

fn accepted(route: &Value, reference: &Value, gateway: &Value) -> Finding {
    let listeners: Vec<&Value> = list(&gateway["spec"]["listeners"])
        .iter()
        .filter(|l| reference["sectionName"].is_null() || l["name"] == reference["sectionName"])
        .filter(|l| reference["port"].is_null() || l["port"] == reference["port"])
        .collect();
    if listeners.is_empty() {
        return Err(("NoMatchingParent", "the Gateway has no such listener".into()));
    }
    let same = namespace_of(route) == namespace_of(gateway);
    let allowed: Vec<&Value> = listeners
        .into_iter()
        .filter(|l| match l["allowedRoutes"]["namespaces"]["from"].as_str().unwrap_or("Same") {
            "All" => true,
            "Same" => same,
            _ => false,
        })
        .collect();
    if allowed.is_empty() {
        let message = "no listener allows routes from this namespace (`from: All` or the \
                       Gateway's own; selectors are not supported)";
        return Err(("NotAllowedByListeners", message.into()));
    }
    let hostnames = list(&route["spec"]["hostnames"]);
    let meets = |listener: &&&Value| {
        let own = listener["hostname"].as_str().unwrap_or_default();
        own.is_empty()
            || hostnames.is_empty()
            || hostnames.iter().filter_map(Value::as_str).any(|h| covers(own, h) || covers(h, own))
    };
    if !allowed.iter().any(|listener| meets(&listener)) {
        return Err(("NoMatchingListenerHostname", "no hostname meets a listener's".into()));
    }
    match problem(route, |reason| !reason.contains("backendRefs")) {
        Some(problem) => Err(("UnsupportedValue", problem)),
        None => Ok("Accepted"),
    }
}

fn resolved(route: &Value, around: &Surroundings<'_>) -> Finding {
    if let Some(problem) = problem(route, |reason| reason.contains("backendRefs")) {
        return Err(("InvalidKind", problem));
    }
    let table = Table::new([route]);
    for rule in table.rules() {
        let mirrors = rule.mirrors.iter().map(|(backend, _)| backend);
        for backend in rule.shares.iter().map(|share| &share.backend).chain(mirrors) {
            let Backend { namespace, service, port } = backend;
            if *namespace != rule.route.0 {
                let message = format!(
                    "Service {namespace}/{service}: backends must be in the route's namespace"
                );
                return Err(("RefNotPermitted", message));
            }
            if !(around.exists)(backend) {
                return Err((
                    "BackendNotFound",
                    format!("no Service {namespace}/{service} with port {port}"),
                ));
            }
        }
    }
    Ok("ResolvedRefs")
}

fn problem(route: &Value, about: impl Fn(&str) -> bool) -> Option<String> {
    let table = Table::new([route]);
    table.rules().iter().filter_map(|rule| rule.problem.clone()).find(|p| about(p))
}

/// The Gateway that a parent reference names, if it is one of ours.
pub(super) fn gateway_of<'a>(
    route: &Value,
    reference: &Value,
    gateways: &[&'a Value],
) -> Option<&'a Value> {
    if reference["kind"].as_str().unwrap_or("Gateway") != "Gateway" {
        return None;
    }
    let own = namespace_of(route);
    let namespace = reference["namespace"].as_str().unwrap_or(&own);
    gateways.iter().copied().find(|gateway| {
        gateway["metadata"]["name"] == reference["name"] && namespace_of(gateway) == namespace
    })
}

/// The `status` of a Gateway of our class that listens on `address`, with the routes attached to
/// it.
#[must_use]
pub fn gateway_status(
    gateway: &Value,
    routes: &[&Value],
    address: &str,
    now: jiff::Timestamp,
) -> Value {
    let before = &gateway["status"]["conditions"];
    let listeners: Vec<Value> = list(&gateway["spec"]["listeners"])
        .iter()
        .map(|listener| {
            let attached = routes.iter().filter(|route| attaches(route, gateway, listener)).count();
            let known = list(&gateway["status"]["listeners"]);
            let before = known
                .iter()
                .find(|l| l["name"] == listener["name"])
                .map_or(&Value::Null, |l| &l["conditions"]);
            json!({
                "name": listener["name"],
                "supportedKinds": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"}],
                "attachedRoutes": attached,
                "conditions": [
                    condition("Accepted", &Ok("Accepted"), gateway, before, now),
                    condition("Programmed", &Ok("Programmed"), gateway, before, now),
                    condition("ResolvedRefs", &Ok("ResolvedRefs"), gateway, before, now),
                ],
            })
        })
        .collect();
    json!({
        "addresses": [{"type": "IPAddress", "value": address}],
        "conditions": [
            condition("Accepted", &Ok("Accepted"), gateway, before, now),
            condition("Programmed", &Ok("Programmed"), gateway, before, now),
        ],
        "listeners": listeners,
    })
}

fn attaches(route: &Value, gateway: &Value, listener: &Value) -> bool {
    list(&route["spec"]["parentRefs"]).iter().any(|reference| {
        gateway_of(route, reference, &[gateway]).is_some()
            && (reference["sectionName"].is_null() || reference["sectionName"] == listener["name"])
            && accepted(route, reference, gateway).is_ok()
    })
}

/// Whether a route may send requests through one of our Gateways.
pub(super) fn is_attached(route: &Value, gateways: &[&Value]) -> bool {
    list(&route["spec"]["parentRefs"]).iter().any(|reference| {
        gateway_of(route, reference, gateways)
            .is_some_and(|gateway| accepted(route, reference, gateway).is_ok())
    })
}

/// The `status` of a GatewayClass that names [`CONTROLLER`].
#[must_use]
pub fn class_status(class: &Value, now: jiff::Timestamp) -> Value {
    let before = &class["status"]["conditions"];
    json!({"conditions": [condition("Accepted", &Ok("Accepted"), class, before, now)]})
}

fn condition(
    kind: &str,
    finding: &Finding,
    object: &Value,
    before: &Value,
    now: jiff::Timestamp,
) -> Value {
    let (status, reason, message) = match finding {
        Ok(reason) => ("True", *reason, ""),
        Err((reason, message)) => ("False", *reason, message.as_str()),
    };
    let known = list(before).iter().find(|c| c["type"] == kind && c["status"] == status);
    let seconds = jiff::Timestamp::from_second(now.as_second()).unwrap_or(now);
    let since = known.map_or_else(|| seconds.to_string(), |c| text(&c["lastTransitionTime"]));
    json!({
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": object["metadata"]["generation"],
        "lastTransitionTime": since,
    })
}
