//! Tables: edits by others, what is refused, what routers answer, and Services.

use serde_json::{Value, json};

use super::*;

fn pair() -> ServicePair {
    ServicePair::of("web")
}

fn route(kind: &str, rules: Value) -> Value {
    json!({
        "kind": kind,
        "metadata": {"name": "web", "namespace": "shop", "generation": 3},
        "spec": {"parentRefs": [{"name": "gw"}], "rules": rules},
    })
}

fn refused(route: &Value, split: &Split) -> String {
    apply_route(route, &pair(), None, split, None).unwrap_err().to_string()
}

fn step(items: Value) -> Split {
    Split::only(serde_json::from_value(items).unwrap())
}

#[test]
fn a_manifest_applied_again_is_seen_and_can_be_split_again() {
    let user = route("HTTPRoute", json!([{"backendRefs": [{"name": "web"}]}]));
    let ten = Split::percent(10);
    let (live, notes) = apply_route(&user, &pair(), None, &ten, None).unwrap();
    let seen = |route: &Value| observed_split(route, &pair(), None, &ten, Some(&notes)).unwrap();
    assert_eq!(seen(&live), Observed::Exact);
    assert_eq!(seen(&user), Observed::Untouched);
    let again = apply_route(&user, &pair(), None, &ten, Some(&notes)).unwrap();
    assert_eq!(again, (live, notes));
}

#[test]
fn a_weight_moved_by_hand_is_contended_and_the_original_still_comes_back() {
    let user = route("HTTPRoute", json!([{"backendRefs": [{"name": "web", "weight": 5}]}]));
    let ten = Split::percent(10);
    let (mut live, notes) = apply_route(&user, &pair(), None, &ten, None).unwrap();
    live["spec"]["rules"][0]["backendRefs"][1]["weight"] = json!(60);
    let seen = observed_split(&live, &pair(), None, &ten, Some(&notes)).unwrap();
    assert_eq!(seen, Observed::Contended { at: "spec.rules[0]".to_owned() });
    assert_eq!(reach(&live, &pair()).weight, Some(40));
    assert_eq!(restore_route(&live, &pair(), Some(&notes)), user);
}

#[test]
fn without_notes_the_canarys_part_goes_back_and_proportions_stay() {
    let user = route("HTTPRoute", json!([{"backendRefs": [{"name": "web"}, {"name": "legacy"}]}]));
    let live = apply_route(&user, &pair(), None, &Split::percent(30), None).unwrap().0;
    let back = restore_route(&live, &pair(), None);
    let want = json!([{"name": "web", "weight": 100}, {"name": "legacy", "weight": 100}]);
    assert_eq!(back["spec"]["rules"][0]["backendRefs"], want);
}

#[test]
fn notes_survive_their_way_through_the_status() {
    let rule = json!({"filters": [], "backendRefs": [{"name": "web"}, {"name": "x", "weight": 3}]});
    let user = route("HTTPRoute", json!([rule]));
    let notes = apply_route(&user, &pair(), None, &Split::percent(1), None).unwrap().1;
    let text = serde_json::to_string(&notes).unwrap();
    assert_eq!(serde_json::from_str::<RouteNotes>(&text).unwrap(), notes);
    assert!(text.len() < 200, "{text}");
}

#[test]
fn reach_reads_every_way_to_the_canary() {
    let user = route("HTTPRoute", json!([{"backendRefs": [{"name": "web", "weight": 1}]}]));
    let reached =
        |split: &Split| reach(&apply_route(&user, &pair(), None, split, None).unwrap().0, &pair());
    assert!(reached(&Split::stable()).is_none());
    assert!(reached(&Split::percent(0)).is_none());
    assert_eq!(reached(&Split::percent(1)).weight, Some(1));
    assert_eq!(reached(&step(json!([{"method": "GET"}]))).match_rules, 1);
    assert!(reached(&Split { mirror: Some(1), ..Split::stable() }).mirrored);
}

#[test]
fn what_cannot_be_written_is_refused_with_its_place() {
    let one = json!({"backendRefs": [{"name": "web"}]});
    let with = |rule: Value| route("HTTPRoute", json!([rule]));
    let many = |n: usize| Value::Array(vec![one.clone(); n]);
    let header = |n: usize| {
        let headers = (0..n).map(|i| json!({"name": format!("h{i}"), "value": "1"}));
        json!([{"headers": headers.collect::<Vec<_>>()}])
    };
    let heavy =
        json!({"backendRefs": [{"name": "web", "weight": 1}, {"name": "x", "weight": 10_001}]});
    let own: Vec<Value> = (0..9).map(|i| json!({"path": {"value": format!("/p{i}")}})).collect();
    let nine = json!({"matches": own, "backendRefs": one["backendRefs"]});
    let eight = (0..8).map(|i| json!({"headers": [{"name": format!("h{i}"), "value": "1"}]}));
    let five = json!([{"method": "GET", "headers": [{"name": "a", "value": "1"}]}]);
    let cookies = ["a", "b", "c", "d"].map(|name| json!({"name": name, "value": "1"}));
    let cases = [
        (with(json!({"matches": []})), Split::percent(1), "no rule has a backendRef"),
        (route("HTTPRoute", json!([])), Split::percent(1), "spec.rules is missing"),
        (with(one.clone()), Split::percent(101), "the weight is 101 %"),
        (with(one.clone()), Split { mirror: Some(101), ..Split::stable() }, "the mirror is 101 %"),
        (with(heavy), Split::percent(1), "spec.rules[0].backendRefs[1]: weight 10001"),
        (route("HTTPRoute", many(9)), step(five), "18 rules, the Gateway API allows 16"),
        (with(one.clone()), step(header(17)), "17 headers"),
        (with(one.clone()), step(json!([{}])), "matches[0]: the match has no part"),
        (with(one.clone()), step(json!([{"cookies": cookies}])), "4 cookies"),
        (with(nine), step(eight.collect()), "spec.rules[0]: 72 matches, the Gateway API allows 64"),
    ];
    for (route, split, want) in cases {
        let text = refused(&route, &split);
        assert!(text.contains(want), "{text}");
    }
}

#[test]
fn a_grpc_route_is_split_alike_and_matches_headers_only() {
    let method = json!({"type": "Exact", "service": "shop.Cart"});
    let rule = json!({"matches": [{"method": method}], "backendRefs": [{"name": "web"}]});
    let user = route("GRPCRoute", json!([rule]));
    let header = step(json!([{"headers": [{"name": "x", "value": "1"}]}]));
    let live = apply_route(&user, &pair(), None, &header, None).unwrap().0;
    let want = json!([{"method": method,
                       "headers": [{"type": "Exact", "name": "x", "value": "1"}]}]);
    assert_eq!(live["spec"]["rules"][0]["matches"], want);
    assert_eq!(restore_route(&live, &pair(), None), user);
    for (part, what) in [
        (json!({"method": "GET"}), "method"),
        (json!({"path": {"value": "/a"}}), "path"),
        (json!({"queryParams": [{"name": "a", "value": "b"}]}), "query parameters"),
    ] {
        assert!(refused(&user, &step(json!([part]))).contains(what));
    }
}

#[test]
fn a_route_that_names_the_canary_before_us_is_refused_at_adoption() {
    let clean = json!({"backendRefs": [{"name": "web"}]});
    let taken = json!({"backendRefs": [{"name": "web-canary"}]});
    assert_eq!(check_route(&route("HTTPRoute", json!([clean])), &pair(), None), Ok(()));
    let both = route("HTTPRoute", json!([clean, taken]));
    let text = check_route(&both, &pair(), None).unwrap_err().to_string();
    assert!(text.contains("spec.rules[1] already names Service web-canary"), "{text}");
}

fn answered(conditions: Value) -> Acceptance {
    let mut route = route("HTTPRoute", json!([]));
    route["status"] = json!({"parents": [{
        "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway",
                      "namespace": "shop", "name": "gw"},
        "conditions": conditions,
    }]});
    accepted(&route)
}

fn condition(type_: &str, status: &str, generation: i64) -> Value {
    json!({"type": type_, "status": status, "observedGeneration": generation,
           "reason": "Why", "message": "words"})
}

#[test]
fn a_route_is_accepted_when_every_parent_says_so_of_this_generation() {
    let good = condition("Accepted", "True", 3);
    let resolved = |status: &str, generation| condition("ResolvedRefs", status, generation);
    assert_eq!(answered(json!([good, resolved("True", 3)])), Acceptance::Accepted);
    let pending = [
        json!([good]),
        json!([good, resolved("True", 2)]),
        json!([good, resolved("False", 2)]),
        json!([good, resolved("Unknown", 3)]),
    ];
    for conditions in pending {
        assert!(matches!(answered(conditions), Acceptance::Pending { .. }));
    }
    let refused = Acceptance::Refused {
        parent: "Gateway gw".to_owned(),
        reason: "ResolvedRefs: Why".to_owned(),
        message: "words".to_owned(),
    };
    assert_eq!(answered(json!([good, resolved("False", 3)])), refused);
    let partly = json!([good, resolved("True", 3), condition("PartiallyInvalid", "True", 3)]);
    assert!(matches!(answered(partly), Acceptance::Refused { .. }));
}

#[test]
fn a_parent_that_has_not_answered_is_named() {
    let mut route = route("HTTPRoute", json!([]));
    let want = Acceptance::Pending { why: "Gateway gw has not answered".to_owned() };
    assert_eq!(accepted(&route), want);
    route["spec"]["parentRefs"] = json!([]);
    assert_eq!(accepted(&route), Acceptance::Unserved);
}

#[test]
fn a_rule_that_sends_to_both_services_belongs_to_the_release_that_splits_it_first() {
    let backends = |names: &[&str]| {
        let all: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
        json!({"backendRefs": all})
    };
    let ask = |rules: Value| {
        let route = route("HTTPRoute", rules);
        rival(&route, &pair(), None, ["other-canary"]).map(str::to_owned)
    };
    let other = Some("other-canary".to_owned());
    assert_eq!(ask(json!([backends(&["web", "other", "other-canary"])])), other);
    // Its rule for matching requests stands before the one that both want.
    let both = backends(&["web", "other"]);
    assert_eq!(ask(json!([backends(&["other-canary"]), both])), other);
    assert_eq!(ask(json!([both])), None, "nothing is split");
    let apart = json!([backends(&["other", "other-canary"]), backends(&["web"])]);
    assert_eq!(ask(apart), None, "each has a rule of its own");
    let own = json!([backends(&["web", "old", "old-canary"])]);
    assert_eq!(ask(own), None, "a Service of the user's that is called so");
}

fn service() -> Value {
    json!({
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "u1", "labels": {"team": "a"},
            "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": "{}",
                "external-dns.alpha.kubernetes.io/hostname": "shop.example",
                "example.com/keep": "yes",
            },
        },
        "spec": {
            "type": "LoadBalancer", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack",
            "healthCheckNodePort": 30002, "externalTrafficPolicy": "Local",
            "internalTrafficPolicy": "Cluster", "sessionAffinity": "None",
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "nodePort": 30001}],
            "selector": {"app": "web"},
        },
    })
}

fn rollout() -> Value {
    json!({"apiVersion": "sluice.dev/v1beta1", "kind": "Rollout",
           "metadata": {"name": "web", "namespace": "shop", "uid": "r1"}})
}

#[test]
fn the_canary_service_is_an_inner_copy_for_one_revision() {
    let made = canary_service(&service(), "web-canary", ("pod-template-hash", "abc"), &rollout());
    let want = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "web-canary", "namespace": "shop", "labels": {"team": "a"},
            "annotations": {"example.com/keep": "yes"},
            "ownerReferences": [{
                "apiVersion": "sluice.dev/v1beta1", "kind": "Rollout", "name": "web", "uid": "r1",
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack",
            "internalTrafficPolicy": "Cluster", "sessionAffinity": "None",
            "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
            "selector": {"app": "web", "pod-template-hash": "abc"},
        },
    });
    assert_eq!(made, want);
    let mut headless = service();
    headless["spec"]["clusterIP"] = json!("None");
    let made = canary_service(&headless, "web-canary", ("pod-template-hash", "abc"), &rollout());
    assert_eq!(made["spec"]["clusterIP"], "None");
    assert_eq!(made["spec"].get("clusterIPs"), None);
}

#[test]
fn a_pinned_service_is_unpinned_to_what_it_was() {
    let pinned = pin(&service(), ("pod-template-hash", "old"));
    assert_eq!(pinned_to(&pinned, "pod-template-hash"), Some("old"));
    assert_eq!(unpin(&pinned, "pod-template-hash"), service());
}

#[test]
fn a_service_that_cannot_be_used_is_refused() {
    let check = |service: &Value| check_service(service, "pod-template-hash");
    assert_eq!(check(&service()), Ok(()));
    let mut bare = service();
    bare["spec"].as_object_mut().unwrap().remove("selector");
    assert!(matches!(check(&bare), Err(ServiceError::NoSelector { .. })));
    let mut outside = service();
    outside["spec"]["type"] = json!("ExternalName");
    assert!(matches!(check(&outside), Err(ServiceError::ExternalName { .. })));
    let pinned = pin(&service(), ("pod-template-hash", "x"));
    assert!(matches!(check(&pinned), Err(ServiceError::AlreadyPinned { .. })));
}

#[test]
fn a_canary_service_of_somebody_elses_is_not_taken_over() {
    let ours = canary_service(&service(), "web-canary", ("pod-template-hash", "a"), &rollout());
    assert_eq!(check_canary_service(&ours, &rollout()), Ok(()));
    let text = check_canary_service(&service(), &rollout()).unwrap_err().to_string();
    assert!(text.contains("is not owned by Rollout shop/web"), "{text}");
    let mut other = rollout();
    other["metadata"]["uid"] = json!("r2");
    assert!(check_canary_service(&ours, &other).is_err());
}
