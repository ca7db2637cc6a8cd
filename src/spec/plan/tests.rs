use super::*;
use crate::spec::{ArgValue, Pause};
use crate::units::Percent;
use serde_json::{Value, json};

fn canary_json(canary: &Value) -> Value {
    json!({
        "workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        "strategy": {"canary": canary},
    })
}

fn parse(spec: Value) -> Result<Plan, Vec<SpecError>> {
    Plan::parse(&serde_json::from_value(spec).unwrap())
}

fn canary(canary: Value) -> Result<Plan, Vec<SpecError>> {
    parse(canary_json(&canary))
}

/// A canary with these steps and a route.
fn steps(steps: Value) -> Result<Plan, Vec<SpecError>> {
    canary(json!({
        "trafficRoutings": [{"service": "web", "gateway": {"httpRouteName": "web"}}],
        "steps": steps,
    }))
}

fn paths(result: Result<Plan, Vec<SpecError>>) -> Vec<String> {
    result.unwrap_err().iter().map(|e| e.path().to_owned()).collect()
}

#[test]
fn a_plan_has_the_defaults_that_the_docs_promise() {
    let plan = canary(json!({"steps": [{"replicas": "10%"}]})).unwrap();
    assert_eq!(plan.progress_deadline.as_secs(), 600);
    assert_eq!(plan.on_failure, OnFailure::Rollback);
    assert_eq!(plan.on_inconclusive, OnInconclusive::Pause);
    assert_eq!(plan.on_delete, OnDelete::Hold);
    assert_eq!(plan.failure_threshold, Tolerance::Absolute(0));
    assert!(!plan.paused && plan.traffic.is_empty() && plan.background.is_empty());
}

#[test]
fn a_step_without_pods_has_the_share_of_its_weight() {
    let plan = steps(json!([{"traffic": "10%"}, {"traffic": "50%", "replicas": 3}])).unwrap();
    assert_eq!(plan.steps[0].replicas, ReplicasTarget::Percent(Percent::new(10).unwrap()));
    assert_eq!(plan.steps[1].replicas, ReplicasTarget::Absolute(3));
    assert_eq!(plan.steps[1].traffic, Traffic::Weight(Percent::new(50).unwrap()));
}

#[test]
fn a_step_with_matches_has_no_weight() {
    let matches = json!([{"headers": [{"name": "x-employee", "value": "yes"}]}]);
    let plan = steps(json!([{"traffic": "10%", "matches": matches}])).unwrap();
    assert_eq!(plan.steps[0].traffic, Traffic::None);
    assert_eq!(plan.steps[0].matches.len(), 1);
    assert_eq!(plan.steps[0].replicas.to_string(), "10%");
}

#[test]
fn a_pause_is_absent_or_for_approval_or_for_time() {
    let plan = steps(json!([
        {"replicas": 1},
        {"replicas": 1, "pause": {}},
        {"replicas": 1, "pause": {"duration": 90}},
        {"replicas": 1, "pause": {"duration": "1h30m"}},
    ]))
    .unwrap();
    let waits: Vec<_> = plan.steps.iter().map(|s| s.pause).collect();
    let span = |s| Pause::For(SignedDuration::from_secs(s));
    assert_eq!(waits, [Pause::Absent, Pause::Approval, span(90), span(5400)]);
}

#[test]
fn a_step_takes_the_common_analysis_unless_it_names_its_own() {
    let plan = canary(json!({
        "stepAnalysis": {"templates": [{"templateName": "common"}], "timeout": "30m"},
        "steps": [
            {"replicas": 1},
            {"replicas": 2, "analysis": {
                "templates": [{"templateName": "own", "clusterScope": true}],
                "args": [
                    {"name": "a", "value": "1"},
                    {"name": "b", "valueFrom": {"podTemplateHashValue": "Latest"}},
                    {"name": "c", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                ],
            }},
        ],
    }))
    .unwrap();
    let common = plan.steps[0].analysis.as_ref().unwrap();
    assert_eq!(
        (common.templates[0].name.as_str(), common.timeout.unwrap().as_mins()),
        ("common", 30)
    );
    let own = plan.steps[1].analysis.as_ref().unwrap();
    assert!(own.templates[0].cluster);
    let values: Vec<_> = own.args.iter().map(|a| a.value.clone()).collect();
    let want =
        [ArgValue::Text("1".into()), ArgValue::LatestHash, ArgValue::Field("metadata.name".into())];
    assert_eq!(values, want);
}

#[test]
fn routes_are_listed_once_in_the_order_they_were_written() {
    let plan = canary(json!({
        "steps": [{"traffic": "10%"}],
        "trafficRoutings": [{"service": "web", "gracePeriodSeconds": 5, "gateway":
            {"httpRouteName": "b", "httpRouteNames": ["a", "b"], "grpcRouteNames": ["b"],
             "ruleName": "api"}}],
    }))
    .unwrap();
    let routes: Vec<String> = plan.traffic[0].routes.iter().map(ToString::to_string).collect();
    assert_eq!(routes, ["HTTPRoute b", "HTTPRoute a", "GRPCRoute b"]);
    let keys: Vec<String> =
        plan.traffic[0].routes.iter().map(super::super::RouteRef::key).collect();
    assert_eq!(keys, ["b", "a", "GRPCRoute/b"], "one name, two routes");
    assert_eq!(plan.traffic[0].rule_name.as_deref(), Some("api"));
    assert_eq!(plan.traffic[0].grace.as_secs(), 5);
}

#[test]
fn every_mistake_in_the_steps_is_found_at_once_with_its_path() {
    let found = paths(steps(json!([
        {"replicas": "0%"},
        {"traffic": "0%"},
        {"traffic": "20"},
        {},
        {"replicas": 1, "pause": {"duration": "5x"}},
        {"replicas": 1, "timeout": -1},
        {"replicas": -2, "mirror": "200%"},
    ])));
    let at = |i: usize, field: &str| format!("spec.strategy.canary.steps[{i}].{field}");
    let want = [
        at(0, "replicas"),
        at(1, "traffic"),
        at(2, "traffic"),
        at(3, "replicas"),
        at(4, "pause.duration"),
        at(5, "timeout"),
        at(6, "mirror"),
        at(6, "replicas"),
    ];
    assert_eq!(found, want);
}

#[test]
fn pods_and_weight_never_go_down_where_they_can_be_compared() {
    let found = paths(steps(json!([
        {"replicas": "20%", "traffic": "20%"},
        {"replicas": 1, "traffic": "20%"},
        {"replicas": "10%", "traffic": "10%"},
    ])));
    assert_eq!(found, ["spec.strategy.canary.steps[2].traffic"]);
    let found = paths(canary(json!({"steps": [{"replicas": 3}, {"replicas": 2}]})));
    assert_eq!(found, ["spec.strategy.canary.steps[1].replicas"]);
}

#[test]
fn traffic_needs_a_route() {
    let matches = json!([{"path": {"value": "/beta"}}]);
    let found = paths(canary(json!({"steps": [
        {"replicas": 1, "traffic": "10%", "matches": matches, "mirror": "5%"},
    ]})));
    let at = |field: &str| format!("spec.strategy.canary.steps[0].{field}");
    assert_eq!(found, [at("traffic"), at("matches"), at("mirror")]);
}

#[test]
fn what_has_no_engine_yet_is_refused_and_says_so() {
    let blue_green = json!({
        "workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        "strategy": {"blueGreen": {"steps": [{"replicas": "100%"}]}},
    });
    let errors = parse(blue_green).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].path(), "spec.strategy.blueGreen");
    assert!(matches!(&errors[0], SpecError::Unsupported { .. }));
    assert!(errors[0].to_string().contains("not supported yet: "), "{}", errors[0]);
}

#[test]
fn one_strategy_is_needed_and_no_more() {
    let workload = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let none = parse(json!({"workloadRef": workload, "strategy": {}}));
    assert_eq!(paths(none), ["spec.strategy"]);
}

#[test]
fn the_hash_is_blind_to_pauses_and_the_failure_threshold_and_to_nothing_else() {
    let hash = |c: Value| canary(c).unwrap().hash;
    let base = hash(json!({"steps": [{"replicas": "10%"}]}));
    let same =
        json!({"steps": [{"replicas": "10%", "pause": {"duration": 5}}], "failureThreshold": "5%"});
    assert_eq!(base, hash(same));
    assert_ne!(base, hash(json!({"steps": [{"replicas": "20%"}]})));
    assert_eq!(base.len(), 16);
}

#[test]
fn a_frozen_step_reads_as_it_did_in_its_plan() {
    let raw = json!({"steps": [{"replicas": 1}, {"replicas": "50%", "timeout": "5m"}]});
    let plan = canary(raw.clone()).unwrap();
    let canary: Canary = serde_json::from_value(raw).unwrap();
    assert_eq!(StepPlan::parse(&plan.steps[1].raw, 1, &canary).unwrap(), plan.steps[1]);
}

#[test]
fn a_route_belongs_to_one_service_and_each_kind_has_its_own_names() {
    let with = |other: Value| {
        canary(json!({
            "trafficRoutings": [
                {"service": "web", "gateway": {"httpRouteName": "web", "grpcRouteNames": ["rpc"]}},
                {"service": "admin", "gateway": other},
            ],
            "steps": [{"traffic": "10%"}],
        }))
    };
    let gateway = ["spec.strategy.canary.trafficRoutings[1].gateway"];
    assert_eq!(paths(with(json!({"httpRouteName": "web"}))), gateway);
    assert_eq!(paths(with(json!({"httpRouteNames": ["admin", "web"]}))), gateway);
    let said = with(json!({"grpcRouteNames": ["rpc"]})).unwrap_err()[0].to_string();
    assert!(said.contains("GRPCRoute rpc") && said.contains("a route of its own"), "{said}");
    assert!(with(json!({"httpRouteName": "rpc", "grpcRouteNames": ["web"]})).is_ok());
}

#[test]
fn a_service_leaves_room_for_the_name_of_its_canary() {
    let named = |length| {
        canary(json!({
            "trafficRoutings": [
                {"service": "s".repeat(length), "gateway": {"httpRouteName": "web"}}],
            "steps": [{"traffic": "10%"}],
        }))
    };
    assert!(named(56).is_ok());
    assert_eq!(paths(named(57)), ["spec.strategy.canary.trafficRoutings[0].service"]);
}
