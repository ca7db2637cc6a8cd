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

/// The matches of the one canary rule that this step gives a rule with these matches.
fn ours(own: Value, step: Value) -> Value {
    let before = json!([{"matches": own, "backendRefs": [{"name": "web"}]}]);
    let after = split(before, &Split::only(matches(step)));
    assert_eq!(after.as_array().unwrap().len(), 2);
    after[0]["matches"].clone()
}

#[test]
fn kruises_six_gateway_cases() {
    // Weight 20 of 100 stays 80/20, as there.
    let own = json!([{"path": {"type": "PathPrefix", "value": "/store"}}]);
    let before = json!([{"matches": own, "backendRefs": [{"name": "web", "port": 80}]}]);
    let after = split(before.clone(), &Split::percent(20));
    assert_eq!(after[0]["backendRefs"][0]["weight"], 80);
    assert_eq!(after[0]["backendRefs"][1]["weight"], 20);
    // Headers, query parameters, both: merged into each of the rule's matches, as there.
    let header = json!({"type": "RegularExpression", "name": "user_id", "value": "123*"});
    let query = json!({"type": "Exact", "name": "version", "value": "v2"});
    let cases = [
        json!({"headers": [header]}),
        json!({"queryParams": [query]}),
        json!({"headers": [header], "queryParams": [query]}),
    ];
    for step in cases {
        let mut want = step.clone();
        want["path"] = own[0]["path"].clone();
        assert_eq!(ours(own.clone(), json!([step])), json!([want]));
    }
    // A path narrows the rule's own; there it replaces it.
    let step = json!([{"path": {"type": "PathPrefix", "value": "/store/v2"}}]);
    assert_eq!(ours(own, step.clone()), step);
    // Weight -1, which is no weight and no match, is the route as it was; there it is 100 to
    // stable.
    assert_eq!(split(before.clone(), &Split::stable()), before);
}

#[test]
fn matches_of_rule_and_step_are_both_required_and_each_pair_is_one_match() {
    let own = json!([{"method": "GET"}, {"headers": [{"name": "tenant", "value": "a"}]}]);
    let step = json!([
        {"headers": [{"name": "x", "value": "1"}]},
        {"method": "POST", "queryParams": [{"name": "q", "value": "2"}]},
    ]);
    let tenant = json!({"name": "tenant", "value": "a"});
    let x = json!({"type": "Exact", "name": "x", "value": "1"});
    let q = json!({"type": "Exact", "name": "q", "value": "2"});
    let want = json!([
        {"method": "GET", "headers": [x]},
        {"headers": [tenant, x]},
        {"method": "POST", "headers": [tenant], "queryParams": [q]},
    ]);
    assert_eq!(ours(own, step), want, "GET and POST together never hold");
}

#[test]
fn a_header_that_both_ask_for_is_asked_for_once() {
    let own = json!([{"headers": [{"name": "Tenant", "value": "a"}]}, {"path": {"value": "/b"}}]);
    let step = |value: &str| json!([{"headers": [{"name": "tenant", "value": value}]}]);
    let b = |value: &str| {
        json!({"path": {"value": "/b"},
               "headers": [{"type": "Exact", "name": "tenant", "value": value}]})
    };
    assert_eq!(ours(own.clone(), step("a")), json!([own[0], b("a")]));
    assert_eq!(ours(own.clone(), step("z")), json!([b("z")]), "a and z together never hold");
    let regex =
        json!([{"headers": [{"name": "tenant", "type": "RegularExpression", "value": "a|b"}]}]);
    let before = json!([{"matches": own, "backendRefs": [{"name": "web"}]}]);
    let text = refused(before, &Split::only(matches(regex)));
    assert!(text.contains("spec.rules[0].matches[0]: header tenant"), "{text}");
}

#[test]
fn paths_meet_where_both_hold() {
    let path = |kind: &str, value: &str| json!({"type": kind, "value": value});
    let (exact, prefix, regex) = ("Exact", "PathPrefix", "RegularExpression");
    let meets = [
        (path(prefix, "/"), path(prefix, "/api"), path(prefix, "/api")),
        (path(prefix, "/api/v1"), path(prefix, "/api"), path(prefix, "/api/v1")),
        (path(prefix, "/api/"), path(exact, "/api/users"), path(exact, "/api/users")),
        (path(exact, "/api"), path(prefix, "/api"), path(exact, "/api")),
        (path(exact, "/a"), path(exact, "/a"), path(exact, "/a")),
        (path(regex, "/v[12]/.*"), path(exact, "/v1/x"), path(exact, "/v1/x")),
        (path(prefix, "/"), path(regex, ".*"), path(regex, ".*")),
        (path(prefix, "/api"), path(regex, "^/api/v[12]"), path(regex, "^/api/v[12]")),
    ];
    for (own, step, want) in meets {
        assert_eq!(ours(json!([{"path": own}]), json!([{"path": step}]))[0]["path"], want);
    }
    let never = [
        (path(prefix, "/api"), path(prefix, "/apis")),
        (path(prefix, "/api"), path(exact, "/")),
        (path(exact, "/a"), path(exact, "/b")),
        (path(regex, "/v[12]"), path(exact, "/v3")),
        (path(prefix, "/api"), path(regex, "/shop/.*")),
    ];
    let unknown = [
        (path(prefix, "/api"), path(regex, "/api?/v1")),
        (path(prefix, "/api"), path(regex, "/shop|/api/x")),
        (path(regex, "/a.*"), path(regex, "/.*a")),
    ];
    for (own, step) in never {
        let before = json!([{"matches": [{"path": own}], "backendRefs": [{"name": "web"}]}]);
        let text = refused(before, &Split::only(matches(json!([{"path": step}]))));
        assert!(text.contains("none of the step's matches can hold"), "{step}: {text}");
    }
    for (own, step) in unknown {
        let before = json!([{"matches": [{"path": own}], "backendRefs": [{"name": "web"}]}]);
        let text = refused(before, &Split::only(matches(json!([{"path": step}]))));
        assert!(text.contains("cannot be told"), "{step}: {text}");
    }
}

#[test]
fn a_rule_that_replaces_its_prefix_gets_one_match_a_rule_and_no_narrower_path() {
    let rewrite = json!({"type": "URLRewrite", "urlRewrite": {
        "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}});
    let path = json!({"type": "PathPrefix", "value": "/api"});
    let before = json!([{"matches": [{"path": path}], "filters": [rewrite],
                         "backendRefs": [{"name": "web"}]}]);
    let step = json!([{"method": "GET"}, {"method": "PUT"}, {"path": {"value": "/"}}]);
    let after = split(before.clone(), &Split::only(matches(step)));
    let made = after.as_array().unwrap().iter().map(|rule| rule["matches"].clone());
    let want = [
        json!([{"path": path, "method": "GET"}]),
        json!([{"path": path, "method": "PUT"}]),
        json!([{"path": path}]),
        json!([{"path": path}]),
    ];
    assert_eq!(made.collect::<Vec<_>>(), want);
    let narrow = Split::only(matches(json!([{"path": {"value": "/api/v2"}}])));
    let text = refused(before, &narrow);
    assert!(text.contains("spec.rules[0]: the rule replaces its path prefix"), "{text}");
}

#[test]
fn a_path_that_one_rule_can_never_see_leaves_that_rule_alone() {
    let rule = |path: &str| {
        json!({"matches": [{"path": {"type": "PathPrefix", "value": path}}],
               "backendRefs": [{"name": "web"}]})
    };
    let step = matches(json!([{"path": {"value": "/b/new"}}]));
    let after = split(json!([rule("/a"), rule("/b")]), &Split::only(step));
    assert_eq!(after.as_array().unwrap().len(), 3);
    assert_eq!((&after[0], &after[2]), (&rule("/a"), &rule("/b")));
}

#[test]
fn a_narrowed_path_takes_nothing_from_a_rule_in_between() {
    let rule = |path: &str, service: &str| {
        json!({"matches": [{"path": {"type": "PathPrefix", "value": path}}],
               "backendRefs": [{"name": service}]})
    };
    let step = Split::only(matches(json!([{"path": {"value": "/api/v2"}}])));
    // The second rule's alone: the first would send `/api/v2` past its filters.
    let after = split(json!([rule("/", "web"), rule("/api", "web")]), &step);
    assert_eq!(after.as_array().unwrap().len(), 3);
    assert_eq!(after[0], rule("/", "web"));
    // Another service's: nothing of it may go to our canary.
    let text = refused(json!([rule("/", "web"), rule("/api", "users")]), &step);
    assert!(text.contains("none of the step's matches can hold"), "{text}");
    let mut some = rule("/api", "users");
    some["matches"][0]["method"] = json!("GET");
    let text = refused(json!([rule("/", "web"), some]), &step);
    assert!(text.contains("it would take requests from spec.rules[1]"), "{text}");
    // A longer path of another rule wins anyway.
    let after = split(json!([rule("/", "web"), rule("/api/v2/users", "users")]), &step);
    assert_eq!(after[0]["matches"][0]["path"]["value"], "/api/v2");
}

#[test]
fn cookies_are_found_among_others_and_nothing_else_is() {
    let cookie = |items: Value| {
        let made = ours(json!([{}]), json!([{"cookies": items}]));
        let header = &made[0]["headers"][0];
        assert_eq!(header["name"], "Cookie");
        assert_eq!(header["type"], "RegularExpression");
        regex::Regex::new(header["value"].as_str().unwrap()).unwrap()
    };
    let one = json!({"name": "beta", "value": "1.0"});
    let exact = cookie(json!([one]));
    assert_eq!(exact.as_str(), r"^(.*;\s*)?beta=1\.0(;.*)?$");
    for yes in ["beta=1.0", "a=b; beta=1.0", "beta=1.0; a=b", "a=b;beta=1.0;c=d"] {
        assert!(exact.is_match(yes), "{yes}");
    }
    for no in ["beta=1x0", "alphabeta=1.0", "beta=1.01", "a=beta=1.0", ""] {
        assert!(!exact.is_match(no), "{no}");
    }
    let pattern = cookie(json!([{"name": "id", "type": "RegularExpression", "value": "^7|8$"}]));
    assert!(pattern.is_match("a=b; id=8") && pattern.is_match("id=7; c=d"));
    assert!(!pattern.is_match("id=9") && !pattern.is_match("xid=7"));
    let both = cookie(json!([one, {"name": "eu", "value": "y"}]));
    assert!(both.is_match("beta=1.0; eu=y") && both.is_match("eu=y; a=b; beta=1.0; z=z"));
    assert!(!both.is_match("beta=1.0") && !both.is_match("beta=1.0; eu=n"));
}

#[test]
fn a_step_with_matches_and_weight_has_the_matches_first_and_the_rest_by_weight() {
    let before = json!([{"name": "all", "backendRefs": [{"name": "web", "weight": 7}]}]);
    let wanted = matches(json!([{"headers": [{"name": "x", "value": "1"}]}]));
    let after = split(before, &Split { weight: Some(25), ..Split::only(wanted) });
    assert_eq!(after[0]["backendRefs"], json!([{"name": "web-canary", "weight": 7}]));
    assert_eq!(after[1]["name"], "all");
    let shares = json!([{"name": "web", "weight": 75}, {"name": "web-canary", "weight": 25}]);
    assert_eq!(after[1]["backendRefs"], shares);
}

#[test]
fn a_step_of_another_shape_starts_from_the_users_route() {
    let before = route(json!([
        {"backendRefs": [{"name": "web", "weight": 4}, {"name": "legacy", "weight": 2}]},
    ]));
    let header = matches(json!([{"headers": [{"name": "x", "value": "1"}]}]));
    let steps = [Split::percent(20), Split::only(header), Split::percent(80), Split::stable()];
    let (mut live, mut notes) = (before.clone(), None);
    for split in &steps {
        let (next, noted) = apply_route(&live, &pair(), None, split, notes.as_ref()).unwrap();
        assert_eq!(next, applied(&before, split).0);
        (live, notes) = (next, Some(noted));
    }
    assert_eq!(live, before);
}

#[test]
fn header_changes_reach_canary_requests_only_and_are_merged_into_the_users() {
    let modifier =
        |set: Value| json!({"type": "RequestHeaderModifier", "requestHeaderModifier": set});
    let own = modifier(json!({"set": [{"name": "X-Arm", "value": "old"}], "remove": ["x-gone"]}));
    let before = json!([{"filters": [own], "backendRefs": [{"name": "web"}]}]);
    let wanted = Split {
        headers: serde_json::from_value(json!({"set": [{"name": "x-arm", "value": "canary"}]}))
            .ok(),
        weight: Some(10),
        ..Split::only(matches(json!([{"headers": [{"name": "x", "value": "1"}]}])))
    };
    let after = split(before, &wanted);
    let arm = json!([{"name": "x-arm", "value": "canary"}]);
    assert_eq!(after[0]["filters"], json!([modifier(json!({"set": arm, "remove": ["x-gone"]}))]));
    assert_eq!(after[1]["filters"], json!([own]));
    assert_eq!(after[1]["backendRefs"][0].get("filters"), None);
    assert_eq!(after[1]["backendRefs"][1]["filters"], json!([modifier(json!({"set": arm}))]));
}

#[test]
fn a_mirror_copies_to_the_canary_and_leaves_the_weights() {
    let before = json!([{"backendRefs": [{"name": "web", "port": 80}]}]);
    let after = split(before.clone(), &Split { mirror: Some(10), ..Split::stable() });
    let target = json!({"group": "", "kind": "Service", "name": "web-canary", "port": 80});
    let filter = json!({"type": "RequestMirror",
                        "requestMirror": {"backendRef": target, "percent": 10}});
    assert_eq!(after[0]["filters"], json!([filter]));
    assert_eq!(after[0]["backendRefs"], before[0]["backendRefs"]);
}

#[test]
fn only_the_named_rule_is_split() {
    let rule = |name: &str| json!({"name": name, "backendRefs": [{"name": "web"}]});
    let before = route(json!([rule("a"), rule("b")]));
    let of = |name| apply_route(&before, &pair(), Some(name), &Split::percent(5), None);
    let after = rules(&of("b").unwrap().0);
    assert_eq!(after[0], rule("a"));
    assert_eq!(after[1]["backendRefs"][1]["weight"], 5);
    assert!(of("c").unwrap_err().to_string().contains("no rule named c"));
}

#[test]
fn a_service_of_another_namespace_or_kind_is_not_the_users() {
    for other in [json!({"namespace": "prod"}), json!({"kind": "ServiceImport"})] {
        let mut backend = json!({"name": "web"});
        backend.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
        let text = refused(json!([{"backendRefs": [backend]}]), &Split::percent(1));
        assert!(text.contains("no rule has a backendRef"), "{text}");
    }
    let home = json!([{"backendRefs": [{"name": "web", "namespace": "shop", "kind": "Service"}]}]);
    assert_eq!(split(home, &Split::percent(1))[0]["backendRefs"][1]["namespace"], "shop");
}
