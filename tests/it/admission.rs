//! What the shipped policies say when a template or a Rollout is applied: in the words of `sluice lint`,
//! on the in-memory API server here and on the real one in the cluster tier.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use sluice::api::crds;
use sluice::cli::lint::{Linter, Severity};
use sluice::clock::SystemClock;
use sluice::sim::apiserver::{ApiServer, Call, ResourceKey, Verb};
use sluice::sim::plugins;

use crate::refusals::good;

/// An object and the sentences of lint that are said of it when it is applied.
pub struct Case {
    pub object: Value,
    pub warnings: Vec<String>,
    pub errors: Vec<String>,
}

/// Every document of a folder of the chart.
pub fn shipped(folder: &str) -> Vec<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/sluice").join(folder);
    let mut all = Vec::new();
    for entry in std::fs::read_dir(root).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        all.extend(documents.into_iter().filter(|document| !document.is_null()));
    }
    all
}

/// An API server with our definitions and these policies.
pub fn server() -> ApiServer {
    let server = plugins::api_server(Arc::new(SystemClock));
    for object in crds::shipped().iter().cloned().chain(shipped("lint")) {
        let (resource, _) = place(&server, &object);
        server.call(Call::new("admin", Verb::Create, &resource).body(object)).unwrap();
    }
    server
}

fn place(server: &ApiServer, object: &Value) -> (ResourceKey, String) {
    let text = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default();
    let resource = server.resource_of(text("/apiVersion"), text("/kind")).unwrap();
    (resource, text("/metadata/namespace").to_owned())
}

/// What is said of an object that is created: warnings, and the refusal.
fn said(server: &ApiServer, object: &Value) -> (Vec<String>, Option<String>) {
    let (resource, namespace) = place(server, object);
    let call = Call::new("user", Verb::Create, &resource).namespace(&namespace).dry_run();
    match server.handle(call.body(object.clone())) {
        Ok(reply) => (sentences(&reply.warnings), None),
        Err(refusal) => (Vec::new(), Some(refusal.message.clone())),
    }
}

/// The sentences in messages of policies, without the policies' names.
pub fn sentences(messages: &[String]) -> Vec<String> {
    let text = |message: &String| {
        let (_, named) = message.split_once("with binding '").unwrap_or_default();
        let (_, words) = named.split_once(": ").unwrap_or_default();
        words.split(" | ").map(str::to_owned).collect::<Vec<_>>()
    };
    messages.iter().flat_map(text).collect()
}

/// What lint says of an object: warnings and errors.
fn linted(linter: &Linter, object: &Value) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut warnings, mut errors) = (BTreeSet::new(), BTreeSet::new());
    for finding in linter.lint(object).unwrap() {
        let severity = finding.severity;
        let list = if severity == Severity::Error { &mut errors } else { &mut warnings };
        list.insert(finding.sentence());
    }
    (warnings, errors)
}

fn metric(change: Value) -> Value {
    let mut object = good("AnalysisTemplate");
    json_patch::merge(object.pointer_mut("/spec/metrics/0").unwrap(), &change);
    object
}

fn template(change: Value) -> Value {
    let mut object = good("AnalysisTemplate");
    json_patch::merge(&mut object["spec"], &change);
    object
}

fn query(query: &str, change: Value) -> Value {
    let mut object = metric(change);
    object["spec"]["metrics"][0]["provider"]["prometheus"]["query"] = json!(query);
    object
}

fn rollout(change: Value) -> Value {
    let mut object = good("Rollout");
    json_patch::merge(&mut object["spec"], &change);
    object
}

fn gauge(critical: bool) -> Value {
    metric(json!({"successCondition": null, "provider": null, "critical": critical,
        "compare": {"gauge": "process_resident_memory_bytes"}}))
}

/// Objects with one mistake each, that a policy sees.
fn mistaken() -> Vec<Value> {
    let mut all = warned();
    all.extend(refused());
    let runs: Vec<Value> = all.iter().filter_map(as_run).collect();
    all.extend(runs);
    all.extend(rollouts());
    all
}

/// A run by hand with the mistakes of a template; it names no templates.
fn as_run(template: &Value) -> Option<Value> {
    let mut run = template.clone();
    run["kind"] = json!("AnalysisRun");
    run["spec"].get("templates").is_none().then_some(run)
}

fn warned() -> Vec<Value> {
    let mut object = template(json!({"templates": [{"templateName": "web"}]}));
    object["metadata"]["name"] = json!("web");
    vec![
        metric(json!({"successCondition": null})),
        metric(json!({"count": 3, "failureLimit": 3, "interval": "1m"})),
        metric(json!({"count": 1, "consecutiveSuccessLimit": 2})),
        metric(json!({"inconclusiveLimit": 2})),
        metric(json!({"critical": true, "advisory": true})),
        metric(json!({"events": "sum(increase(x[5m]))"})),
        metric(json!({"weight": 2})),
        metric(json!({"successCondition": "true"})),
        metric(json!({"successCondition": null, "failureCondition": "1 > 2"})),
        query("sum(rate(http_requests_total{code=\"500\"}[5m]))", json!({})),
        query("sum(rate(x[1m]))", json!({"interval": "90s"})),
        query("sum(rate(x[1m])) / sum(rate(y[1m]))", json!({"interval": "1h30m"})),
        query("sum(rate(x[10s]))", json!({"interval": 5})),
        query("max(max_over_time(up[20s:1s]))", json!({})),
        metric(json!({"noData": "Fail", "interval": "10s", "failureLimit": 2})),
        metric(json!({"noData": "Inconclusive", "interval": "10s", "initialDelay": "5s"})),
        metric(json!({"consecutiveErrorLimit": 2, "interval": "30s"})),
        metric(json!({"onError": "Fail", "errorRetry": "10s", "interval": "5m"})),
        metric(json!({"consecutiveErrorLimit": 0})),
        gauge(false),
        object,
    ]
}

fn refused() -> Vec<Value> {
    let args = json!([{"name": "hash"}]);
    let with_args = |mut object: Value| {
        object["spec"]["args"] = args.clone();
        object
    };
    vec![
        query("sum(up{pod=~\"{{args.name}}\"})", json!({})),
        with_args(query("sum(up{pod=~\"{{args.hash}}-{{ args.nam }}\", a=\"{{x}}\"})", json!({}))),
        metric(json!({"interval": "{{args.every}}"})),
        metric(json!({"failureLimit": -1})),
        metric(json!({"count": 2, "failureLimit": 3, "interval": "1m"})),
        metric(
            json!({"count": 2, "failureLimit": -1, "consecutiveSuccessLimit": 3, "interval": 60}),
        ),
        metric(json!({"interval": "0s"})),
        metric(json!({"direction": "Decrease"})),
        gauge(true),
        template(json!({"risk": "2%"})),
        template(json!({"calibration": {"history": "14d"}})),
        template(json!({"decide": {"atLeast": 2}})),
        template(json!({"dryRun": [{"metricName": "latency"}]})),
        template(json!({"measurementRetention": [{"metricName": "^x", "limit": 3}]})),
    ]
}

fn rollouts() -> Vec<Value> {
    let canary = |change: Value| rollout(json!({"strategy": {"canary": change}}));
    let routing = |router: Value| {
        let mut object = rollout(json!({}));
        json_patch::merge(&mut object["spec"]["strategy"]["canary"]["trafficRoutings"][0], &router);
        object
    };
    vec![
        rollout(json!({"workloadRef": {"kind": "StatefulSet"}})),
        rollout(
            json!({"strategy": {"canary": null, "blueGreen": {"steps": [{"replicas": "50%"}]}}}),
        ),
        rollout(json!({"notifications": [{"ref": "team", "on": ["Paused"]}]})),
        canary(json!({"enableExtraWorkloadForCanary": true})),
        canary(json!({"patchPodTemplateMetadata": {"labels": {"a": "b"}}})),
        canary(json!({"trafficRoutingRef": "web", "trafficRoutings": null,
            "steps": [{"replicas": 1}]})),
        canary(json!({"disableGenerateCanaryService": true})),
        canary(json!({"sessionAffinity": {"cookieName": "c"}})),
        canary(json!({"rollback": {"steps": "Gradual"}})),
        routing(json!({"ingress": {"name": "web"}})),
        routing(json!({"customNetworkRefs": [{"apiVersion": "v1", "kind": "K", "name": "n"}]})),
    ]
}

/// The mistaken objects with what lint says of them.
pub fn cases() -> Vec<Case> {
    let linter = Linter::default();
    let mut all = Vec::new();
    for (i, mut object) in mistaken().into_iter().enumerate() {
        let cyclic = object.pointer("/spec/templates/0").is_some();
        object["metadata"]["name"] = json!(format!("case-{i}"));
        let (mut warnings, mut errors) = linted(&linter, &object);
        if cyclic {
            object["spec"]["templates"][0]["templateName"] = json!(format!("case-{i}"));
            warnings.insert(
                "spec.templates[0].templateName: leads back to this template; each is taken once; \
                 take one of the references out"
                    .to_owned(),
            );
        }
        if object["kind"] == "Rollout" {
            // What is in a cluster can always be edited.
            warnings.append(&mut errors);
        }
        let [warnings, errors] = [warnings, errors].map(|set| set.into_iter().collect());
        all.push(Case { object, warnings, errors });
    }
    all
}

#[test]
fn what_a_policy_sees_is_said_at_admission_in_the_words_of_lint() {
    let server = server();
    let mut other = String::new();
    for Case { object, warnings, errors } in cases() {
        let (mut heard, refused) = said(&server, &object);
        let expected = if refused.is_some() { &errors } else { &warnings };
        heard.extend(sentences(&refused.iter().cloned().collect::<Vec<_>>()));
        heard.sort();
        if heard.is_empty() || heard != *expected {
            other += &format!("{}\n  said {heard:#?}\n  lint {expected:#?}\n", object["spec"]);
        }
    }
    assert!(other.is_empty(), "{other}");
}

#[test]
fn of_a_run_that_a_rollout_owns_nothing_is_said() {
    let server = server();
    let mut run = as_run(&metric(json!({"interval": "{{args.every}}"}))).unwrap();
    assert!(said(&server, &run).1.is_some());
    let owner = json!({"apiVersion": "sluice.dev/v1beta1", "kind": "Rollout", "name": "web",
        "uid": "1"});
    run["metadata"]["ownerReferences"] = json!([owner]);
    assert_eq!(said(&server, &run), (vec![], None));
}

/// A template of random parts, mostly odd ones.
fn random(seed: u64) -> Value {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut pick = move |among: &[Value]| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        among[usize::try_from(state >> 33).unwrap() % among.len()].clone()
    };
    let n = Value::Null;
    let mut metrics = Vec::new();
    for i in 0..1 + seed % 3 {
        let change = json!({
            "name": format!("m{i}"),
            "interval": pick(&[n.clone(), json!("10s"), json!(30), json!("1m"), json!("1h5m")]),
            "initialDelay": pick(&[n.clone(), n.clone(), json!("5s"), json!("2m")]),
            "failureLimit": pick(&[n.clone(), json!(1), json!("2"), json!(3), json!(-1)]),
            "inconclusiveLimit": pick(&[n.clone(), json!(0), json!(1)]),
            "consecutiveErrorLimit": pick(&[n.clone(), n.clone(), json!(0), json!(2), json!("4"), json!(7)]),
            "consecutiveSuccessLimit": pick(&[n.clone(), n.clone(), json!(1), json!(3)]),
            "errorRetry": pick(&[n.clone(), n.clone(), json!("3s"), json!("30s")]),
            "noData": pick(&[n.clone(), n.clone(), json!("Fail"), json!("Inconclusive"), json!("Judge")]),
            "onError": pick(&[n.clone(), n.clone(), json!("Pass"), json!("Wait")]),
            "advisory": pick(&[n.clone(), n.clone(), json!(true)]),
            "critical": pick(&[n.clone(), n.clone(), json!(true)]),
            "weight": pick(&[n.clone(), n.clone(), json!(2)]),
            "successCondition": pick(&[json!("result[0] < 0.1"), json!("len(result) == 0 || result[0] < 1")]),
            "failureCondition": pick(&[n.clone(), n.clone(), json!("result[0] > 0.5")]),
        });
        let mut object = metric(change);
        let metric = &mut object["spec"]["metrics"][0];
        metric["provider"]["prometheus"]["query"] = pick(&[
            json!("sum(rate(x[1m])) / sum(rate(y[1m]))"),
            json!("sum(rate(x{a=\"[5s]\"}[90s])) + sum(increase(y{b!=\"c\"}[2h]))"),
            json!("sum(rate(x{pod=~\"{{args.hash}}.*\"}[10s]))"),
            json!("max(max_over_time(up[20s])) > bool 0"),
        ]);
        // What the schema refuses is not what is asked here.
        let known = metric["interval"].is_string() || metric["interval"].is_number();
        metric["count"] = pick(&[n.clone(), json!(1), json!(if known { 5 } else { 1 })]);
        metrics.push(metric.clone());
    }
    let decide = pick(&[n.clone(), n.clone(), json!({"score": "70%"}), json!({"atLeast": 2})]);
    let args = json!([{"name": "hash", "value": "5d4f"}]);
    template(json!({"metrics": metrics, "decide": decide, "args": args}))
}

#[test]
fn of_any_template_nothing_is_said_at_admission_that_lint_does_not_say() {
    let (server, linter) = (server(), Linter::default());
    let mut heard = 0;
    for seed in 0..120 {
        let object = random(seed);
        let (warnings, errors) = linted(&linter, &object);
        let (warned, refused) = said(&server, &object);
        // Of a template with an error lint says that first.
        let warned = warned.iter().filter(|_| errors.is_empty());
        for sentence in warned {
            heard += 1;
            assert!(warnings.contains(sentence), "{seed}: {sentence}\n{warnings:#?}\n{object:#}");
        }
        for sentence in sentences(&refused.into_iter().collect::<Vec<_>>()) {
            heard += 1;
            assert!(errors.contains(&sentence), "{seed}: {sentence}\n{errors:#?}\n{object:#}");
        }
    }
    assert!(heard > 100, "{heard}");
}

#[test]
fn of_the_template_library_nothing_is_refused_and_lint_says_no_less() {
    let (server, linter) = (server(), Linter::default());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("analysis-templates");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        for object in documents.into_iter().filter(Value::is_object) {
            let (warnings, _) = linted(&linter, &object);
            let (warned, refused) = said(&server, &object);
            let more: Vec<_> = warned.iter().filter(|one| !warnings.contains(*one)).collect();
            assert!(refused.is_none() && more.is_empty(), "{refused:?} {more:#?}\n{object:#}");
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}
