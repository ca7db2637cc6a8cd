use serde_json::{Value, json};

use super::*;

fn http_route(name: &str, spec: Value) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "shop", "generation": 3,
                     "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": spec,
    })
}

fn to(service: &str, weight: u32) -> Value {
    json!({"name": service, "port": 80, "weight": weight})
}

/// A rule with one match that leads to `service`.
fn rule(matcher: Value, service: &str) -> Value {
    json!({"matches": [matcher], "backendRefs": [to(service, 1)]})
}

fn request(path: &str) -> Request<'_> {
    Request { host: "shop.test", method: "GET", path, query: "", headers: &[] }
}

fn outcome(routes: &[Value], request: &Request<'_>, random: u64) -> String {
    match route(routes, request, random, |b| b.service != "gone").outcome {
        Outcome::Forward(share) => share.backend.service,
        Outcome::NotFound => "404".into(),
        Outcome::Broken(_) => "500".into(),
    }
}

#[test]
fn weights_split_the_requests_and_zero_gets_none() {
    let split =
        json!({"rules": [{"backendRefs": [to("stable", 90), to("canary", 10), to("off", 0)]}]});
    let routes = [http_route("web", split)];
    let canary = (0..1_000).filter(|i| outcome(&routes, &request("/"), *i) == "canary").count();
    assert_eq!(canary, 100);
    assert!((0..1_000).all(|i| outcome(&routes, &request("/"), i) != "off"));
}

#[test]
fn no_weight_no_backend_and_no_service_answer_500_and_no_match_404() {
    let all_zero = json!({"rules": [{"backendRefs": [to("stable", 0)]}]});
    assert_eq!(outcome(&[http_route("web", all_zero)], &request("/"), 1), "500");
    assert_eq!(outcome(&[http_route("web", json!({"rules": [{}]}))], &request("/"), 1), "500");
    let half = json!({"rules": [{"backendRefs": [to("stable", 1), to("gone", 1)]}]});
    let half = [http_route("web", half)];
    assert_eq!(outcome(&half, &request("/"), 0), "stable");
    assert_eq!(outcome(&half, &request("/"), 1), "500");
    let mut abroad = json!({"rules": [{"backendRefs": [to("stable", 1)]}]});
    abroad["rules"][0]["backendRefs"][0]["namespace"] = json!("elsewhere");
    assert_eq!(outcome(&[http_route("web", abroad)], &request("/"), 0), "500");
    let only = json!({"rules": [rule(json!({"path": {"type": "Exact", "value": "/a"}}), "a")]});
    assert_eq!(outcome(&[http_route("web", only)], &request("/b"), 0), "404");
}

#[test]
fn a_prefix_covers_whole_path_elements() {
    let spec = json!({"rules": [
        rule(json!({"path": {"type": "PathPrefix", "value": "/shop/"}}), "shop"),
        rule(json!({"path": {"type": "PathPrefix", "value": "/shop/cart"}}), "cart"),
        rule(json!({"path": {"type": "Exact", "value": "/shop/cart"}}), "exact"),
        rule(json!({"path": {"type": "RegularExpression", "value": "/[0-9]+"}}), "number"),
    ]});
    let routes = [http_route("web", spec)];
    let cases = [
        ("/shop", "shop"),
        ("/shop/", "shop"),
        ("/shopping", "404"),
        ("/shop/cart", "exact"),
        ("/shop/cart/1", "cart"),
        ("/123", "number"),
        ("/123x", "404"),
    ];
    for (path, expected) in cases {
        assert_eq!(outcome(&routes, &request(path), 0), expected, "{path}");
    }
}

#[test]
fn headers_cookies_methods_and_parameters_select_a_rule() {
    let pattern = r"(.*;\s*)?variant=b(;.*)?";
    let cookie = json!({"name": "cookie", "type": "RegularExpression", "value": pattern});
    let spec = json!({"rules": [
        rule(json!({}), "stable"),
        rule(json!({"headers": [{"name": "X-User", "value": "tester"}]}), "header"),
        rule(json!({"headers": [cookie]}), "cookie"),
        rule(json!({"method": "POST"}), "post"),
        rule(json!({"queryParams": [{"name": "v", "value": "a b"}]}), "query"),
    ]});
    let routes = [http_route("web", spec)];
    let headers = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    };
    let with = |pairs: &[(&str, &str)]| {
        outcome(&routes, &Request { headers: &headers(pairs), ..request("/") }, 0)
    };
    assert_eq!(with(&[("x-user", "tester")]), "header");
    assert_eq!(with(&[("X-USER", "Tester")]), "stable");
    assert_eq!(with(&[("Cookie", "a=1; variant=b; c=2")]), "cookie");
    assert_eq!(with(&[("Cookie", "a=1"), ("cookie", "variant=b")]), "cookie");
    assert_eq!(with(&[("Cookie", "variant=bb")]), "stable");
    assert_eq!(outcome(&routes, &Request { method: "POST", ..request("/") }, 0), "post");
    assert_eq!(outcome(&routes, &Request { query: "x=1&v=a%20b", ..request("/") }, 0), "query");
}

#[test]
fn the_most_specific_host_wins_then_the_older_route_then_the_name() {
    let one = |service| json!([{"backendRefs": [to(service, 1)]}]);
    let mut younger = http_route("a", json!({"hostnames": ["shop.test"], "rules": one("younger")}));
    younger["metadata"]["creationTimestamp"] = json!("2026-02-02T00:00:00Z");
    let routes = [
        http_route("any", json!({"rules": one("any")})),
        http_route("wild", json!({"hostnames": ["*.test"], "rules": one("wild")})),
        younger,
        http_route("c", json!({"hostnames": ["shop.test"], "rules": one("second")})),
        http_route("b", json!({"hostnames": ["shop.test"], "rules": one("first")})),
    ];
    let at = |host| outcome(&routes, &Request { host, ..request("/") }, 0);
    assert_eq!(at("Shop.test:8080"), "first");
    assert_eq!(at("other.test"), "wild");
    assert_eq!(at("test"), "any");
}

#[test]
fn filters_change_headers_mirror_or_break_the_rule() {
    let spec = json!({"rules": [{
        "filters": [
            {"type": "RequestHeaderModifier", "requestHeaderModifier": {
                "set": [{"name": "a", "value": "1"}], "remove": ["b"],
            }},
            {"type": "RequestMirror",
             "requestMirror": {"backendRef": to("canary", 1), "percent": 30}},
        ],
        "backendRefs": [to("stable", 1)],
    }]});
    let decision = route(&[http_route("web", spec)], &request("/"), 0, |_| true);
    let rule = decision.rule.unwrap();
    assert_eq!(rule.headers.set, [("a".to_owned(), "1".to_owned())]);
    assert_eq!((rule.headers.remove.len(), rule.mirrors[0].1), (1, 30));
    let spec =
        json!({"rules": [{"filters": [{"type": "URLRewrite"}], "backendRefs": [to("stable", 1)]}]});
    let Outcome::Broken(reason) =
        route(&[http_route("web", spec)], &request("/"), 0, |_| true).outcome
    else {
        panic!("an unsupported filter was ignored");
    };
    assert_eq!(reason, "spec.rules[0].filters[0]: filter \"URLRewrite\" is not supported");
}

fn conditions(route: &Value, gateway: &Value, now: &str) -> (Value, Value) {
    let around = Surroundings {
        gateways: &[gateway],
        exists: &|b| b.service != "gone",
        now: now.parse().unwrap(),
    };
    let status = parents_status(route, &around);
    let ours = status["parents"].as_array().unwrap().iter();
    let ours = ours.clone().rfind(|p| p["controllerName"] == CONTROLLER);
    ours.map_or((Value::Null, status.clone()), |p| (p["conditions"].clone(), status.clone()))
}

#[test]
fn a_route_is_accepted_by_its_gateway_and_keeps_the_time_of_the_transition() {
    let gateway = json!({
        "metadata": {"name": "edge", "namespace": "shop"},
        "spec": {"listeners": [{"name": "http", "port": 80, "hostname": "*.test"}]},
    });
    let spec = json!({
        "parentRefs": [{"name": "edge"}],
        "hostnames": ["shop.test"],
        "rules": [{"backendRefs": [to("stable", 1)]}],
    });
    let mut route = http_route("web", spec);
    let foreign =
        json!({"controllerName": "other.dev/c", "parentRef": {"name": "x"}, "conditions": []});
    route["status"] = json!({"parents": [foreign]});
    let (found, status) = conditions(&route, &gateway, "2026-01-01T00:00:05.7Z");
    assert_eq!(status["parents"][0], foreign);
    assert_eq!((&found[0]["status"], &found[1]["status"]), (&json!("True"), &json!("True")));
    assert_eq!(found[0]["observedGeneration"], 3);
    assert_eq!(found[0]["lastTransitionTime"], "2026-01-01T00:00:05Z");

    route["status"] = status.clone();
    assert_eq!(conditions(&route, &gateway, "2026-01-01T01:00:00Z").1, status);

    route["spec"]["rules"][0]["backendRefs"][0]["name"] = json!("gone");
    let (found, _) = conditions(&route, &gateway, "2026-01-01T02:00:00Z");
    assert_eq!(
        (&found[1]["status"], &found[1]["reason"]),
        (&json!("False"), &json!("BackendNotFound"))
    );
    assert_eq!(found[1]["lastTransitionTime"], "2026-01-01T02:00:00Z");
    assert_eq!(found[0]["lastTransitionTime"], "2026-01-01T00:00:05Z");

    route["spec"]["hostnames"] = json!(["shop.example"]);
    let (found, _) = conditions(&route, &gateway, "2026-01-01T02:00:00Z");
    assert_eq!(found[0]["reason"], "NoMatchingListenerHostname");
    route["metadata"]["namespace"] = json!("elsewhere");
    route["spec"]["parentRefs"][0]["namespace"] = json!("shop");
    let (found, _) = conditions(&route, &gateway, "2026-01-01T02:00:00Z");
    assert_eq!(found[0]["reason"], "NotAllowedByListeners");
    route["spec"]["parentRefs"][0]["name"] = json!("unknown");
    assert_eq!(conditions(&route, &gateway, "2026-01-01T02:00:00Z").0, Value::Null);
}

#[test]
fn a_gateway_reports_how_many_routes_are_attached() {
    let gateway = json!({
        "metadata": {"name": "edge", "namespace": "shop", "generation": 1},
        "spec": {"listeners": [{"name": "http", "port": 80}]},
    });
    let attached = http_route("web", json!({"parentRefs": [{"name": "edge"}], "rules": []}));
    let other = http_route("api", json!({"parentRefs": [{"name": "else"}], "rules": []}));
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let status = gateway_status(&gateway, &[&attached, &other], "127.0.0.1", now);
    assert_eq!(status["listeners"][0]["attachedRoutes"], 1);
    assert_eq!(status["conditions"][1]["type"], "Programmed");
}
