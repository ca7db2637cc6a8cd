//! Mistakes that a schema can see, and what is said of each: by `sluice lint` here, and in the same
//! words by the real API server in the cluster tier.

use serde_json::{Value, json};
use sluice::cli::lint::{Linter, Severity};

/// A mistake: the kind, what is merged into its good object, the field, and the server's words.
pub struct Mistake {
    pub kind: &'static str,
    pub change: Value,
    pub path: &'static str,
    pub words: &'static str,
}

fn mistake(kind: &'static str, change: Value, path: &'static str, words: &'static str) -> Mistake {
    Mistake { kind, change, path, words }
}

/// A good object of each kind.
pub fn good(kind: &str) -> Value {
    let spec = match kind {
        "Rollout" => json!({
            "workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "strategy": {"canary": {
                "trafficRoutings": [{"service": "web", "gateway": {"httpRouteName": "web"}}],
                "steps": [{"traffic": "10%"}],
            }},
        }),
        "MetricProvider" => json!({"address": "http://prometheus.monitoring:9090"}),
        "Gate" => json!({"account": "sluice"}),
        _ => json!({"metrics": [{
            "name": "errors",
            "successCondition": "result[0] < 0.01",
            "provider": {"prometheus": {"address": "http://prometheus:9090", "query": "sum(up)"}},
        }]}),
    };
    let name = if kind == "Gate" { "sluice" } else { "web" };
    let metadata = json!({"name": name, "namespace": "default"});
    json!({"apiVersion": "sluice.dev/v1beta1", "kind": kind, "metadata": metadata, "spec": spec})
}

/// The object with the mistake in it.
pub fn bad(mistake: &Mistake) -> Value {
    let mut object = good(mistake.kind);
    json_patch::merge(&mut object, &mistake.change);
    object
}

fn canary(canary: Value) -> Value {
    json!({"spec": {"strategy": {"canary": canary}}})
}

fn step(step: Value) -> Value {
    canary(json!({"steps": [step]}))
}

fn metric(change: Value) -> Value {
    let mut object = good("AnalysisTemplate");
    let metric = object.pointer_mut("/spec/metrics/0").unwrap();
    json_patch::merge(metric, &change);
    json!({"spec": object["spec"]})
}

/// Every mistake.
pub fn mistakes() -> Vec<Mistake> {
    let mut all = rollouts();
    all.extend(canaries());
    all.extend(routings());
    all.extend(step_mistakes());
    all.extend(parts_of_steps());
    all.extend(templates());
    all.extend(comparisons());
    all.extend(others());
    all
}

fn rollouts() -> Vec<Mistake> {
    let bad = |change, path, words| mistake("Rollout", change, path, words);
    vec![
        bad(
            json!({"spec": {"strategy": {"canary": null}}}),
            "spec.strategy",
            "must have exactly one of canary and blueGreen",
        ),
        bad(
            json!({"spec": {"strategy": {"blueGreen": {"steps": [{"replicas": 1}]}}}}),
            "spec.strategy",
            "must have exactly one of canary and blueGreen",
        ),
        bad(
            json!({"spec": {
                "workloadRef": {"kind": "StatefulSet"},
                "strategy": {"canary": null, "blueGreen": {"steps": [{"replicas": 1}]}},
            }}),
            "spec",
            "blueGreen releases a Deployment or a CloneSet; use canary for other kinds",
        ),
        bad(
            json!({"spec": {
                "workloadRef": {"kind": "CloneSet"},
                "strategy": {"canary": {"enableExtraWorkloadForCanary": true}},
            }}),
            "spec",
            "enableExtraWorkloadForCanary releases a Deployment; set it to false for other kinds",
        ),
        bad(json!({"spec": {"workloadRef": null}}), "spec.workloadRef", "Required value"),
        bad(
            json!({"spec": {"workloadRef": {"name": ""}}}),
            "spec.workloadRef.name",
            "should be at least 1 chars long",
        ),
        bad(
            json!({"spec": {"workloadRef": {"name": "We B"}}}),
            "spec.workloadRef.name",
            "in body should match '^[a-z0-9]",
        ),
        bad(
            json!({"spec": {"onFailure": "Explode"}}),
            "spec.onFailure",
            "\"Explode\": supported values: \"Rollback\", \"Pause\", \"Isolate\"",
        ),
        bad(json!({"spec": {"disabled": "yes"}}), "spec.disabled", "must be of type boolean"),
        bad(
            json!({"spec": {"progressDeadlineSeconds": 0}}),
            "spec.progressDeadlineSeconds",
            "should be greater than or equal to 1",
        ),
        bad(
            json!({"spec": {"alerts": [{"action": "Pause"}]}}),
            "spec.alerts[0]",
            "matchLabels must name at least one label, or every alert would stop the release",
        ),
        bad(json!({"spec": {"colour": 1}}), "spec.colour", "unknown field \"spec.colour\""),
    ]
}

fn canaries() -> Vec<Mistake> {
    let bad = |change, path, words| mistake("Rollout", canary(change), path, words);
    vec![
        bad(
            json!({"steps": []}),
            "spec.strategy.canary",
            "must have from 1 to 50 steps, or a ramp that writes them",
        ),
        bad(
            json!({"steps": vec![json!({"replicas": 1}); 51]}),
            "spec.strategy.canary.steps",
            "Too many: 51: must have at most 50 items",
        ),
        bad(
            json!({"steps": [{"traffic": "50%"}, {"traffic": "20%"}]}),
            "spec.strategy.canary",
            "traffic must not go down from one step to the next",
        ),
        bad(
            json!({"steps": [{"replicas": 3}, {"replicas": 2}]}),
            "spec.strategy.canary",
            "replicas must not go down from one step to the next",
        ),
        bad(
            json!({"steps": [{"name": "a", "replicas": 1}, {"name": "a", "replicas": 2}]}),
            "spec.strategy.canary",
            "two steps have one name; give each step its own",
        ),
        bad(
            json!({"failureThreshold": "101%"}),
            "spec.strategy.canary.failureThreshold",
            "in body should match",
        ),
        bad(
            json!({"analysis": {"templates": []}}),
            "spec.strategy.canary.analysis",
            "must name at least one template; write `- templateName: NAME` under templates",
        ),
    ]
}

fn routings() -> Vec<Mistake> {
    let bad = |change, path, words| mistake("Rollout", canary(change), path, words);
    vec![
        bad(
            json!({"trafficRoutings": []}),
            "spec.strategy.canary",
            "a step with traffic, matches, mirror or requestHeaderModifier needs trafficRoutings; \
             add `- service: NAME` with a gateway",
        ),
        bad(
            json!({"trafficRoutings": [{"service": "web"}]}),
            "spec.strategy.canary.trafficRoutings[0]",
            "must name at least one router; write gateway: {httpRouteName: NAME}",
        ),
        bad(
            json!({"trafficRoutings": [{"service": "web", "gateway": {}}]}),
            "spec.strategy.canary.trafficRoutings[0].gateway",
            "must name a route; write httpRouteName: NAME",
        ),
        bad(
            json!({"trafficRoutings": [
                {"service": "web", "gateway": {"httpRouteNames": ["a", "a"]}},
            ]}),
            "spec.strategy.canary.trafficRoutings[0].gateway.httpRouteNames[1]",
            "Duplicate value: \"a\"",
        ),
        bad(
            json!({"trafficRoutings": [
                {"service": "web", "gateway": {"httpRouteName": "a"}},
                {"service": "admin", "gateway": {"httpRouteName": "a"}},
            ]}),
            "spec.strategy.canary",
            "a route is named by two trafficRoutings; give each Service a route of its own",
        ),
        bad(
            json!({"trafficRoutings": [
                {"service": "web", "gateway": {"httpRouteNames": ["b", "a"]}},
                {"service": "admin", "gateway": {"httpRouteName": "a"}},
            ]}),
            "spec.strategy.canary",
            "a route is named by two trafficRoutings; give each Service a route of its own",
        ),
        bad(
            json!({"trafficRoutings": [
                {"service": "web", "gateway": {"httpRouteName": "a", "grpcRouteNames": ["g", "h"]}},
                {"service": "admin", "gateway": {"grpcRouteNames": ["h"]}},
            ]}),
            "spec.strategy.canary",
            "a route is named by two trafficRoutings; give each Service a route of its own",
        ),
        bad(
            json!({"trafficRoutings": [
                {"service": "s".repeat(57), "gateway": {"httpRouteName": "web"}},
            ]}),
            "spec.strategy.canary.trafficRoutings[0]",
            "service may have 56 characters at most: the Service NAME-canary beside it may have 63",
        ),
    ]
}

fn step_mistakes() -> Vec<Mistake> {
    let bad = |change, path, words| mistake("Rollout", step(change), path, words);
    const PERCENT: &str = "must be a percentage such as 10%, from 0% to 100%";
    vec![
        bad(json!({"traffic": "150%"}), "spec.strategy.canary.steps[0].traffic", PERCENT),
        bad(json!({"traffic": "50"}), "spec.strategy.canary.steps[0].traffic", PERCENT),
        bad(
            json!({"traffic": "0%"}),
            "spec.strategy.canary",
            "traffic must be above 0%; leave traffic out for none",
        ),
        bad(
            json!({"replicas": 1, "mirror": "-1%"}),
            "spec.strategy.canary.steps[0].mirror",
            PERCENT,
        ),
        bad(
            json!({"pause": {}}),
            "spec.strategy.canary.steps[0]",
            "replicas is needed when the step has no traffic; write a number such as 1, or 10%",
        ),
        bad(
            json!({"replicas": 0}),
            "spec.strategy.canary.steps[0].replicas",
            "should be greater than or equal to 1",
        ),
        bad(
            json!({"replicas": "0%"}),
            "spec.strategy.canary.steps[0].replicas",
            "in body should match '^([1-9][0-9]?|100)%$'",
        ),
        bad(
            json!({"replicas": "1000%"}),
            "spec.strategy.canary.steps[0].replicas",
            "Too long: may not be more than 4 bytes",
        ),
        bad(
            json!({"replicas": true}),
            "spec.strategy.canary.steps[0].replicas",
            "must be of type integer,string: \"boolean\"",
        ),
    ]
}

fn parts_of_steps() -> Vec<Mistake> {
    let bad = |change, path, words| mistake("Rollout", step(change), path, words);
    vec![
        bad(
            json!({"replicas": 1, "pause": {"duration": "5x"}}),
            "spec.strategy.canary.steps[0].pause.duration",
            "in body should match",
        ),
        bad(
            json!({"replicas": 1, "timeout": -1}),
            "spec.strategy.canary.steps[0].timeout",
            "should be greater than or equal to 0",
        ),
        bad(
            json!({"replicas": 1, "matches": [{}]}),
            "spec.strategy.canary.steps[0].matches[0]",
            "must match something: a path, headers, queryParams, cookies or a method",
        ),
        bad(
            json!({"replicas": 1, "matches": [{"path": {"value": "beta"}}]}),
            "spec.strategy.canary.steps[0].matches[0].path",
            "value must start with `/`",
        ),
        bad(
            json!({"replicas": 1, "matches": vec![json!({"method": "GET"}); 17]}),
            "spec.strategy.canary.steps[0].matches",
            "Too many: 17: must have at most 16 items",
        ),
        bad(
            json!({"replicas": 1, "analysis": {
                "templates": [{"templateName": "t"}], "args": [{"name": "a"}],
            }}),
            "spec.strategy.canary.steps[0].analysis.args[0]",
            "must have exactly one of value and valueFrom",
        ),
    ]
}

fn templates() -> Vec<Mistake> {
    let bad = |change, path, words| mistake("AnalysisTemplate", change, path, words);
    vec![
        bad(
            json!({"spec": {"metrics": null}}),
            "spec",
            "must have metrics, or templates or a kayentaConfig that bring them",
        ),
        bad(
            metric(json!({"provider": null})),
            "spec.metrics[0]",
            "must have a provider, or compare with the controller's default server",
        ),
        bad(
            metric(json!({"provider": {"web": {"url": "http://web"}}})),
            "spec.metrics[0].provider",
            "multiple providers specified; a metric has one",
        ),
        bad(
            metric(json!({"provider": {"prometheus": null}})),
            "spec.metrics[0].provider",
            "no provider specified; write for example prometheus: {query: ...}",
        ),
        bad(
            metric(json!({"count": 5})),
            "spec.metrics[0]",
            "interval must be specified when count > 1",
        ),
        bad(
            metric(json!({"interval": "60s-typo"})),
            "spec.metrics[0].interval",
            "in body should match",
        ),
        bad(
            metric(json!({"failureLimit": -2})),
            "spec.metrics[0].failureLimit",
            "should be greater than or equal to -1",
        ),
        bad(
            json!({"spec": {"args": [{"name": "a"}, {"name": "a"}]}}),
            "spec",
            "an argument is declared twice; declare each argument once",
        ),
    ]
}

fn comparisons() -> Vec<Mistake> {
    let bad = |change, path, words| mistake("AnalysisTemplate", change, path, words);
    vec![
        bad(
            metric(json!({"compare": {"gauge": "x", "histogram": "y"}, "successCondition": null})),
            "spec.metrics[0].compare",
            "must have exactly one of ratio, count, histogram, gauge and series",
        ),
        bad(
            metric(json!({
                "compare": {"gauge": "x", "arms": {"label": "version", "canary": "1", "stable": "1"}},
                "successCondition": null,
            })),
            "spec.metrics[0].compare.arms",
            "canary and stable have the same value; nothing tells the versions apart",
        ),
        bad(
            metric(json!({"compare": {"series": "x"}, "successCondition": null})),
            "spec.metrics[0].compare",
            "series is for judge: {kayenta: {...}}, and that judge judges series",
        ),
        bad(
            json!({"spec": {"kayenta": {"step": "30s"}}}),
            "spec",
            "kayenta says how a kayentaConfig is judged; write that too, or leave kayenta out",
        ),
        bad(
            json!({"spec": {"kayentaConfig": {}, "kayenta": {"control": {"scope": "web"}}}}),
            "spec.kayenta",
            "control and experiment belong together; write both or none",
        ),
    ]
}

fn others() -> Vec<Mistake> {
    vec![
        mistake(
            "MetricProvider",
            json!({"spec": {"address": "prometheus:9090"}}),
            "spec.address",
            "in body should match",
        ),
        mistake(
            "MetricProvider",
            json!({"spec": {"auth": {
                "bearer": {"name": "s", "key": "k"},
                "basic": {"username": "u", "password": {"name": "s", "key": "k"}},
            }}}),
            "spec.auth",
            "must have at most one of bearer, basic, oauth2, sigv4 and headers",
        ),
        mistake(
            "Gate",
            json!({"metadata": {"name": "other"}}),
            "",
            "a namespace has one Gate, named sluice; the controller writes it",
        ),
    ]
}

#[test]
fn good_objects_are_clean() {
    let linter = Linter::default();
    for kind in ["Rollout", "AnalysisTemplate", "AnalysisRun", "MetricProvider", "Gate"] {
        let findings = linter.lint(&good(kind)).unwrap();
        assert!(findings.is_empty(), "{kind}: {findings:#?}");
    }
}

#[test]
fn lint_names_the_field_and_says_the_words_of_the_api_server() {
    let linter = Linter::default();
    for mistake in mistakes() {
        let findings = linter.lint(&bad(&mistake)).unwrap();
        let said = findings.iter().any(|f| {
            f.severity == Severity::Error
                && f.path.starts_with(mistake.path)
                && f.message.contains(mistake.words)
        });
        assert!(said, "{}: {}: not in {findings:#?}", mistake.path, mistake.words);
    }
}
