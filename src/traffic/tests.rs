//! Tables: what a rule reads like after each kind of split, and what is refused.

use serde_json::{Value, json};

use super::*;
use crate::api::rollout::HttpMatch;

fn pair() -> ServicePair {
    ServicePair::of("web")
}

fn route(rules: Value) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "web", "namespace": "shop", "generation": 3},
        "spec": {"parentRefs": [{"name": "gw"}], "rules": rules},
    })
}

fn rules(route: &Value) -> Value {
    route["spec"]["rules"].clone()
}

fn matches(items: Value) -> Vec<HttpMatch> {
    serde_json::from_value(items).unwrap()
}

fn applied(route: &Value, split: &Split) -> (Value, RouteNotes) {
    let (edited, notes) = apply_route(route, &pair(), None, split, None).unwrap();
    let again = apply_route(&edited, &pair(), None, split, Some(&notes)).unwrap();
    assert_eq!(again, (edited.clone(), notes.clone()), "asking twice changes nothing");
    assert_eq!(restore_route(&edited, &pair(), Some(&notes)), *route, "restored exactly");
    (edited, notes)
}

/// The rules after this split of a route with these rules.
fn split(before: Value, split: &Split) -> Value {
    rules(&applied(&route(before), split).0)
}

fn refused(before: Value, split: &Split) -> String {
    apply_route(&route(before), &pair(), None, split, None).unwrap_err().to_string()
}

#[test]
fn one_backend_is_split_in_percent_and_keeps_everything_else() {
    let before = json!([{
        "name": "all",
        "timeouts": {"request": "5s"},
        "filters": [{"type": "ResponseHeaderModifier",
                     "responseHeaderModifier": {"set": [{"name": "a", "value": "b"}]}}],
        "sessionPersistence": {"sessionName": "s"},
        "backendRefs": [{"name": "web", "port": 80, "filters": [{"type": "ExtensionRef"}]}],
    }]);
    let mut want = before.clone();
    want[0]["backendRefs"] = json!([
        {"name": "web", "port": 80, "weight": 90, "filters": [{"type": "ExtensionRef"}]},
        {"name": "web-canary", "port": 80, "weight": 10, "filters": [{"type": "ExtensionRef"}]},
    ]);
    assert_eq!(split(before, &Split::percent(10)), want);
}

#[test]
fn other_backends_keep_their_proportion_exactly() {
    let before = json!([{"backendRefs": [
        {"name": "web", "weight": 3}, {"name": "legacy"}, {"name": "dark", "weight": 0},
    ]}]);
    let want = json!([{"backendRefs": [
        {"name": "web", "weight": 270}, {"name": "web-canary", "weight": 30},
        {"name": "legacy", "weight": 100}, {"name": "dark", "weight": 0},
    ]}]);
    assert_eq!(split(before, &Split::percent(10)), want);
}

#[test]
fn headers_go_before_the_users_rule_to_the_canary_only() {
    let own = json!({
        "name": "api",
        "matches": [{"path": {"type": "PathPrefix", "value": "/api"}}],
        "backendRefs": [{"name": "web", "port": 80}, {"name": "legacy", "port": 80}],
    });
    let wanted = matches(json!([{"headers": [{"name": "x-employee", "value": "yes"}]}]));
    let ours = json!({
        "matches": [{
            "path": {"type": "PathPrefix", "value": "/api"},
            "headers": [{"type": "Exact", "name": "x-employee", "value": "yes"}],
        }],
        "backendRefs": [{"name": "web-canary", "port": 80}],
    });
    assert_eq!(split(json!([own]), &Split::only(wanted)), json!([ours, own]));
}

#[test]
fn a_route_that_does_not_send_to_the_service_is_refused() {
    let text = refused(json!([{"backendRefs": [{"name": "other"}]}]), &Split::percent(1));
    assert!(text.starts_with("HTTPRoute shop/web: no rule has a backendRef to Service web;"));
}
