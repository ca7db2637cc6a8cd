//! Routes that somebody else writes, refuses or does not serve.

use super::exhaustive::{accept, route, service};
use super::*;
use crate::traffic::{ServicePair, reach};

fn seconds(n: i64) -> Timestamp {
    NOW + jiff::SignedDuration::from_secs(n)
}

/// A release at a step of 2 of 10 pods, with the traffic that `step` says.
fn routed(state: StepState, step: &Value) -> Snapshot {
    let mut s = released(Stage::Stepping, state, 2, 8);
    let mut first = json!({"replicas": 2, "pause": {}});
    json_patch::merge(&mut first, step);
    let canary = json!({
        "trafficRoutings": [{"service": "web", "gateway": {"httpRouteName": "web"}}],
        "steps": [first, {"replicas": "100%"}],
    });
    s.rollout.spec = rollout(&json!({"strategy": {"canary": canary}})).spec;
    s.services.insert("web".into(), service());
    s.endpoints = [("web".to_owned(), 8), ("web-canary".to_owned(), 2)].into();
    s.routes.insert("web".into(), route());
    s
}

/// What was planned is done.
fn obey(s: &mut Snapshot, made: Plan) {
    for action in &made.actions {
        match action {
            Action::PutRoute(route) => {
                let mut route = route.clone();
                let generation = route["metadata"]["generation"].as_i64().unwrap();
                route["metadata"]["generation"] = json!(generation + 1);
                let name = route["metadata"]["name"].as_str().unwrap().to_owned();
                s.routes.insert(name, *route);
            }
            Action::CreateService(service) | Action::PutService(service) => {
                let name = service["metadata"]["name"].as_str().unwrap().to_owned();
                s.services.insert(name, (**service).clone());
            }
            Action::DeleteService { name, .. } => {
                s.services.remove(name);
            }
            _ => {}
        }
    }
    follow(s, made);
}

fn live(s: &mut Snapshot) -> &mut Value {
    s.routes.get_mut("web").unwrap()
}

fn weight(s: &Snapshot) -> Option<u8> {
    reach(&s.routes["web"], &ServicePair::of("web")).weight
}

/// The step's traffic is in the route and accepted.
fn moved(step: &Value) -> Snapshot {
    let mut s = routed(StepState::StepTrafficRouting, step);
    for _ in 0..6 {
        let made = plan_of(&s);
        obey(&mut s, made);
        accept(live(&mut s));
    }
    let made = plan_of(&s);
    assert!(waiting(&made).contains("approval"), "{made:#?}");
    follow(&mut s, made);
    s
}

/// A second parent, which nobody serves: its word never comes.
fn silence(s: &mut Snapshot) {
    let silent = json!({"group": "", "kind": "Service", "name": "mesh"});
    live(s)["spec"]["parentRefs"].as_array_mut().unwrap().push(silent);
}

fn pinned(s: &Snapshot, name: &str) -> bool {
    s.services[name].pointer("/spec/selector/pod-template-hash").is_some()
}

/// Each second until `done`: the second, and the events on the way.
fn until(s: &mut Snapshot, done: impl Fn(&Snapshot, &Plan) -> bool) -> (i64, Vec<&'static str>) {
    let mut said = Vec::new();
    for second in 0..120 {
        for _ in 0..3 {
            let made = plan(s, seconds(second));
            said.extend(events(&made));
            if done(s, &made) {
                return (second, said);
            }
            obey(s, made);
        }
    }
    panic!("never: {:#?}", s.rollout.status);
}

fn goes_back(_: &Snapshot, made: &Plan) -> bool {
    matches!(written(made), Some(Write::Deployment(patch)) if patch.template.is_some())
}

#[test]
fn a_gateway_that_says_nothing_stops_a_step_for_good_and_the_way_back_for_half_a_minute() {
    let mut s = moved(&json!({"traffic": "20%"}));
    silence(&mut s);
    let made = plan(&s, seconds(3600));
    assert!(waiting(&made).contains("Service mesh has not answered"), "{made:#?}");
    assert!(!events(&made).contains(&"RouteNotAccepted"));
    ask(&mut s, RequestVerb::Abort);
    let (second, said) = until(&mut s, goes_back);
    assert_eq!((second, weight(&s)), (30, None), "{said:?}");
    let told = said.iter().filter(|reason| **reason == "RouteNotAccepted");
    assert_eq!(told.count(), 1, "{said:?}");
    assert!(pinned(&s, "web"), "the version that failed gets nothing back");
    assert!(!pinned(&s, "web-canary"), "who still sends there is answered");
}

/// A step of 8 of 10 pods of which the first part, 5, is there and rests.
fn first_part() -> Snapshot {
    let step = json!({"replicas": 8, "traffic": "80%", "timeout": "10m"});
    let mut s = routed(StepState::BeforeStepUpgrade, &step);
    release(&mut s).step_since = Some(crate::api::Time(NOW));
    let mut view = workload("v2", vec![set("v1", 5, 5), set("v2", 5, 5)]);
    view.fields.paused = true;
    view.fields.max_surge = Some(IntOrString::Int(0));
    s.workload = Some(view);
    s.endpoints = [("web".to_owned(), 5), ("web-canary".to_owned(), 5)].into();
    s
}

/// The weight of the part is asked for and not accepted.
fn ask_for_part(s: &mut Snapshot) {
    for _ in 0..6 {
        let made = plan_of(s);
        assert_eq!(written(&made), None, "no pod before the gateway's word: {made:#?}");
        obey(s, made);
    }
    assert_eq!(weight(s), Some(62), "what 5 of 8 carry");
}

#[test]
fn a_gateway_that_says_nothing_of_a_part_stops_the_step_until_its_timeout() {
    let mut s = first_part();
    ask_for_part(&mut s);
    let made = plan_of(&s);
    assert_eq!((made.urgency, waiting(&made).contains("HTTPRoute web")), (Urgency::None, true));
    let shown = made.status.traffic.as_ref().unwrap();
    assert_eq!(shown.desired.as_deref(), Some("62%"));
    assert_ne!(shown.observed, shown.desired, "not before the word");

    let stage = |made: &Plan| made.status.release.as_ref().unwrap().stage;
    assert_eq!(stage(&plan(&s, seconds(599))), Stage::Stepping);
    s.rollout.spec.on_inconclusive = Some(crate::api::rollout::OnInconclusive::Rollback);
    let made = plan(&s, seconds(601));
    assert_eq!(stage(&made), Stage::RollingBack, "{made:#?}");

    accept(live(&mut s));
    let made = plan_of(&s);
    assert!(events(&made).contains(&"TrafficMoved") && written(&made).is_some(), "{made:#?}");
    assert!(waiting(&made).contains("pods to move to 8 new"), "{made:#?}");
}

#[test]
fn where_a_crash_left_one_of_two_routes_unwritten_the_other_keeps_the_weight_of_its_part() {
    let mut s = first_part();
    let mut spec = serde_json::to_value(&s.rollout.spec).unwrap();
    spec["strategy"]["canary"]["trafficRoutings"][0]["gateway"] =
        json!({"httpRouteNames": ["web", "www"]});
    s.rollout.spec = serde_json::from_value(spec).unwrap();
    let mut other = route();
    other["metadata"]["name"] = json!("www");
    s.routes.insert("www".into(), other.clone());
    ask_for_part(&mut s);
    s.routes.insert("www".into(), other);
    accept(live(&mut s));
    let made = plan_of(&s);
    assert_eq!(written(&made), None, "{made:#?}");
    obey(&mut s, made);
    let pair = ServicePair::of("web");
    let weights = ["web", "www"].map(|name| reach(&s.routes[name], &pair).weight);
    assert_eq!(weights, [Some(62); 2]);
}

#[test]
fn an_analysis_that_fails_ends_a_step_whose_traffic_or_pods_are_not_in_place_any_more() {
    for lost in
        [silence as fn(&mut Snapshot), |s| view_of(s).replica_sets[1].pods[0].ready_since = None]
    {
        let stanza = json!({"templates": [{"templateName": "t"}]});
        let step = json!({"traffic": "20%", "timeout": "1h", "analysis": stanza});
        let mut s = routed(StepState::StepTrafficRouting, &step);
        super::watch::templates(&mut s);
        let run = (0..8).find_map(|_| {
            let made = plan_of(&s);
            let run = made.actions.iter().find_map(|action| match action {
                Action::StartRun(run) => Some((**run).clone()),
                _ => None,
            });
            obey(&mut s, made);
            accept(live(&mut s));
            run
        });
        let mut run = run.unwrap();
        lost(&mut s);
        s.endpoints.insert("web-canary".into(), 1);
        let failed = json!({"phase": "Failed", "verdict": "Fail", "reason": "errors: 0.5 > 0.01"});
        run.status = Some(serde_json::from_value(failed).unwrap());
        s.runs.insert(run.metadata.name.clone().unwrap(), run);
        let made = plan_of(&s);
        let stage = made.status.release.as_ref().unwrap().stage;
        assert_eq!(stage, Stage::RollingBack, "{made:#?}");
        assert_eq!(made.status.rejected.unwrap().reason, "step 1: errors: 0.5 > 0.01");
    }
}

#[test]
fn a_gateway_that_refuses_keeps_the_way_back_as_long() {
    let mut s = moved(&json!({"traffic": "20%"}));
    let no = json!({"type": "Accepted", "status": "False", "reason": "No", "message": "words",
        "observedGeneration": 99});
    silence(&mut s);
    ask(&mut s, RequestVerb::Abort);
    let parent = live(&mut s)["spec"]["parentRefs"][1].clone();
    let answer = json!({"parentRef": parent, "controllerName": "m", "conditions": [no]});
    live(&mut s)["status"]["parents"].as_array_mut().unwrap().push(answer);
    let (second, said) = until(&mut s, goes_back);
    assert_eq!(second, 30, "{said:?}");
}

#[test]
fn a_rollout_that_is_deleted_on_the_way_back_keeps_its_pin_for_the_wait_and_then_goes() {
    let mut s = moved(&json!({"traffic": "20%"}));
    silence(&mut s);
    ask(&mut s, RequestVerb::Abort);
    for _ in 0..3 {
        let made = plan_of(&s);
        obey(&mut s, made);
    }
    deleted(&mut s);
    let (second, _) = until(&mut s, |s, _| !pinned(s, "web"));
    assert_eq!(second, 30);
    until(&mut s, |_, made| waiting(made).contains("fields to be given back"));
    assert!(!s.services.contains_key("web-canary"));
}

#[test]
fn a_route_without_a_parent_holds_a_release_before_its_pods_move_and_no_way_back() {
    let mut s = routed(StepState::BeforeStepUpgrade, &json!({"traffic": "20%"}));
    live(&mut s)["spec"]["parentRefs"] = json!([]);
    let made = plan_of(&s);
    assert!(waiting(&made).contains("no router serves it"), "{made:#?}");
    assert_eq!(written(&made), None);
    let mut s = moved(&json!({"traffic": "20%"}));
    live(&mut s)["spec"]["parentRefs"] = json!([]);
    ask(&mut s, RequestVerb::Abort);
    let (second, said) = until(&mut s, goes_back);
    assert_eq!((second, weight(&s)), (0, None), "{said:?}");
}

#[test]
fn what_a_gateway_refuses_is_said_once() {
    let mut s = moved(&json!({"traffic": "20%"}));
    live(&mut s)["status"]["parents"][0]["conditions"][0]["status"] = json!("False");
    let made = plan_of(&s);
    assert!(events(&made).contains(&"RouteRefused"), "{made:#?}");
    follow(&mut s, made);
    let made = plan(&s, seconds(5));
    assert_eq!((events(&made), made.urgency), (vec![], Urgency::None), "{made:#?}");
}

fn matched() -> Value {
    json!({"matches": [{"headers": [{"name": "x-employee", "value": "yes"}]}]})
}

#[test]
fn a_write_that_does_not_come_through_is_nobodys_reset() {
    let mut s = routed(StepState::StepTrafficRouting, &matched());
    for _ in 0..8 {
        let made = plan_of(&s);
        assert!(!events(&made).contains(&"RouteContended"), "{made:#?}");
        let route = s.routes["web"].clone();
        obey(&mut s, made);
        s.routes.insert("web".into(), route);
    }
    assert_eq!(release(&mut s).contended, None);
}

#[test]
fn a_route_that_is_reset_three_times_in_a_step_holds_the_release() {
    for step in [matched(), json!({"traffic": "20%"})] {
        let mut s = moved(&step);
        for round in 1..=3 {
            let generation = live(&mut s)["metadata"]["generation"].as_i64().unwrap();
            *live(&mut s) = route();
            live(&mut s)["metadata"]["generation"] = json!(generation + 1);
            let made = plan_of(&s);
            assert_eq!(events(&made).contains(&"RouteContended"), round == 3, "{made:#?}");
            obey(&mut s, made);
            accept(live(&mut s));
            let made = plan_of(&s);
            obey(&mut s, made);
        }
        assert!(release(&mut s).held.is_some());
    }
}

#[test]
fn a_server_that_keeps_something_else_than_was_written_is_not_written_to_for_ever() {
    let mut s = routed(StepState::StepTrafficRouting, &json!({"mirror": "10%"}));
    let mut writes = 0;
    for _ in 0..10 {
        let made = plan_of(&s);
        writes += made.actions.iter().filter(|a| matches!(a, Action::PutRoute(_))).count();
        let generation = live(&mut s)["metadata"]["generation"].clone();
        obey(&mut s, made);
        let mut changes = false;
        for filter in
            live(&mut s)["spec"]["rules"][0]["filters"].as_array_mut().into_iter().flatten()
        {
            changes |= filter["requestMirror"].as_object_mut().unwrap().remove("percent").is_some();
        }
        if changes && generation != 1 {
            live(&mut s)["metadata"]["generation"] = generation;
        }
    }
    assert!(release(&mut s).held.is_some() && writes < 6, "{writes}: {:?}", release(&mut s).held);
}

#[test]
fn a_split_that_no_route_can_say_is_found_before_the_first_pod_moves() {
    let mut s = routed(StepState::BeforeStepUpgrade, &json!({"replicas": 1}));
    let second = json!({"strategy": {"canary": {"steps": [
        {"replicas": 1}, {"replicas": 2, "traffic": "20%"}]}}});
    let mut spec = serde_json::to_value(&s.rollout.spec).unwrap();
    json_patch::merge(&mut spec, &second);
    s.rollout.spec = serde_json::from_value(spec).unwrap();
    live(&mut s)["spec"]["rules"][0]["backendRefs"] = json!([
        {"name": "web", "port": 80, "weight": 33333}, {"name": "old", "port": 80, "weight": 66667}]);
    let made = plan_of(&s);
    assert!(waiting(&made).contains("step 2: "), "{made:#?}");
    assert!(waiting(&made).contains("weight 33333 needs 3333300"), "{made:#?}");
    assert_eq!(written(&made), None);
}

#[test]
fn a_rule_that_another_release_splits_is_waited_for_before_anything_is_written() {
    let mut s = routed(StepState::BeforeStepUpgrade, &json!({"traffic": "20%"}));
    s.splits.insert("bb-canary".into(), "bb".into());
    let backend = |name: &str, weight: u64| json!({"name": name, "port": 80, "weight": weight});
    let theirs = [backend("web", 100), backend("bb", 90), backend("bb-canary", 10)];
    live(&mut s)["spec"]["rules"][0]["backendRefs"] = json!(theirs);
    let made = plan_of(&s);
    assert!(waiting(&made).contains("Rollout bb splits a rule"), "{made:#?}");
    assert!(events(&made).contains(&"RouteConflict"), "{made:#?}");
    let writes =
        made.actions.iter().any(|a| matches!(a, Action::PutRoute(_) | Action::PutService(_)));
    assert!(!writes && written(&made).is_none(), "{made:#?}");
    live(&mut s)["spec"]["rules"][0]["backendRefs"] =
        json!([backend("web", 50), backend("bb", 50)]);
    let made = plan_of(&s);
    assert!(!waiting(&made).contains("bb"), "its release is over: {made:#?}");
}

/// A release whose second step has traffic, `traffic` to so many new pods of ten; then somebody jumps back to
/// the first, of 2 pods and 20%.
fn jumped_back(new: i32, traffic: &str) -> Snapshot {
    let mut s = routed(StepState::StepTrafficRouting, &json!({"traffic": "20%"}));
    let canary = json!({
        "trafficRoutings": [{"service": "web", "gateway": {"httpRouteName": "web"}}],
        "steps": [{"replicas": 2, "traffic": "20%", "pause": {}},
            {"replicas": new, "traffic": traffic, "pause": {}}, {"replicas": "100%"}],
    });
    s.rollout.spec = rollout(&json!({"strategy": {"canary": canary}})).spec;
    has(&mut s, 10 - new, new);
    release(&mut s).step = 1;
    release(&mut s).state = StepState::StepTrafficRouting;
    for _ in 0..6 {
        let made = plan_of(&s);
        obey(&mut s, made);
        accept(live(&mut s));
    }
    status(&mut s).canary_status.as_mut().unwrap().next_step_index = Some(1);
    s
}

/// So many stable and new pods, all ready.
fn has(s: &mut Snapshot, old: i32, new: i32) {
    view_of(s).replica_sets = vec![set("v1", old, old), set("v2", new, new)];
    s.endpoints = [("web".to_owned(), 10), ("web-canary".to_owned(), new)].into();
}

/// As long as Services and routes are written. No pod moves meanwhile.
fn routes_settle(s: &mut Snapshot) {
    loop {
        let made = plan_of(s);
        let writes =
            made.actions.iter().any(|a| matches!(a, Action::PutRoute(_) | Action::PutService(_)));
        if !writes {
            return;
        }
        assert_eq!(written(&made), None, "{made:#?}");
        obey(s, made);
        accept(live(s));
    }
}

#[test]
fn on_a_jump_back_traffic_leaves_as_the_stable_pods_come_and_before_the_new_ones_go() {
    let mut s = jumped_back(8, "80%");
    assert_eq!((weight(&s), pinned(&s, "web")), (Some(80), true));
    // 8 of the 10 pods may carry everything.
    let carried = [(2, 75), (3, 63), (4, 50), (5, 38), (6, 25), (7, 20), (8, 20)];
    for (old, percent) in carried {
        has(&mut s, old, 10 - old);
        routes_settle(&mut s);
        assert_eq!(weight(&s), Some(percent), "{old} stable pods are ready");
        assert!(pinned(&s, "web") && pinned(&s, "web-canary"));
    }
    let made = plan_of(&s);
    assert!(waiting(&made).contains("approval"), "{made:#?}");
    assert!(!made.status.release.unwrap().backward);
}

#[test]
fn on_a_jump_back_an_open_service_is_pinned_when_the_stable_pods_serve_its_share() {
    for (traffic, least) in [("100%", 1), ("50%", 3)] {
        let mut s = jumped_back(10, traffic);
        assert!(!pinned(&s, "web"), "no stable pod is left");
        for old in 1..=4 {
            has(&mut s, old, 10 - old);
            routes_settle(&mut s);
            assert_eq!(pinned(&s, "web"), old >= least, "{old} serve what {traffic} leaves");
        }
    }
}

#[test]
fn a_gateway_that_says_nothing_keeps_a_jump_back_for_half_a_minute() {
    let mut s = jumped_back(8, "80%");
    silence(&mut s);
    let (second, said) = until(&mut s, |_, made| written(made).is_some());
    assert_eq!((second, weight(&s)), (30, Some(75)), "{said:?}");
    assert!(!pinned(&s, "web-canary"), "who still sends there is answered");
}

#[test]
fn a_route_that_is_reset_on_a_jump_back_holds_the_release() {
    let mut s = jumped_back(8, "80%");
    let theirs = live(&mut s).clone();
    for _ in 0..12 {
        let made = plan_of(&s);
        obey(&mut s, made);
        let generation = live(&mut s)["metadata"]["generation"].as_i64().unwrap();
        *live(&mut s) = theirs.clone();
        live(&mut s)["metadata"]["generation"] = json!(generation + 1);
    }
    assert!(release(&mut s).held.as_ref().unwrap().contains("resets"), "{:?}", release(&mut s));
}

#[test]
fn a_step_waits_for_the_stable_pods_that_its_open_service_needs_until_its_deadline() {
    let lacks = |ready: i32| {
        let mut s = routed(StepState::StepUpgrade, &json!({"traffic": "20%"}));
        view_of(&mut s).replica_sets = vec![set("v1", 8, ready), set("v2", 2, 2)];
        release(&mut s).since = Some(crate::api::Time(NOW));
        s
    };
    let s = lacks(3);
    let made = plan_of(&s);
    assert_eq!(waiting(&made), "step 1: 6 stable pods for its traffic, 3 are ready");
    assert!(!made.actions.iter().any(|a| matches!(a, Action::PutService(_))), "{made:#?}");
    let made = plan(&s, seconds(601));
    assert_eq!(made.status.release.unwrap().stage, Stage::RollingBack);
    let cause = made.status.rejected.unwrap().reason;
    assert!(cause.starts_with("step 1: 3 stable pods are ready after 600s"), "{cause}");
    let mut s = lacks(6);
    routes_settle(&mut s);
    assert!(pinned(&s, "web"));
    // No stable pod is ready: who answers is the new version, and nothing is waited for.
    let made = plan_of(&lacks(0));
    assert!(!waiting(&made).contains("stable pods"), "{made:#?}");
}

#[test]
fn a_stable_version_that_nobody_helps_is_pinned_with_what_it_has() {
    let mut s = routed(StepState::BeforeStepUpgrade, &json!({"traffic": "20%"}));
    view_of(&mut s).replica_sets = vec![set("v1", 10, 3)];
    routes_settle(&mut s);
    assert!(pinned(&s, "web"), "the new pods would get traffic by accident");
}
