//! Whole releases by each template of analysis-templates/ on the in-memory cluster: the controller makes
//! the run, the gateway splits the requests, and a good version is promoted and a bad one rolled back.
//!
//! What the templates ask for comes from exporters, meshes and gateways, which the cluster has none of.
//! [`Exporters`] stands for them: it looks at the pods that are ready and at the requests that each of
//! them has answered, and writes the lines of `tests/data/analysis-templates.yaml` for their image.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sluice::clock::Clock;
use sluice::sim::cluster::{Cluster, Options};
use sluice::sim::kubelet;
use sluice::sim::load::Visitor;
use sluice::sim::pods::Behaviours;
use sluice::sim::promql::{Labels, stale_marker};

use crate::releases::each;
use crate::templates::{Case, GIVEN, cases, library, of_pod, series};
use crate::world::{
    NAMESPACE, Shape, WEB, get, is_ready, pods, rollouts, seconds, services, set_image,
};

/// Time between two scrapes.
const SCRAPE_SECONDS: i64 = 15;
/// A release that has not ended after so many scrapes hangs: an hour.
const SCRAPES_MAX: usize = 240;
/// Requests a second.
const RATE: f64 = 10.0;

/// Everything that is scraped.
struct Exporters<'a> {
    case: &'a Case,
    /// The lines of the new version.
    new: &'a str,
    /// The last value of each series.
    values: BTreeMap<Labels, f64>,
    answered: BTreeMap<(String, String), u64>,
}

impl Exporters<'_> {
    fn scrape(&mut self, cluster: &Cluster) {
        let answered = cluster.answered();
        let mut values = BTreeMap::new();
        let mut show = |line: &str, times: f64| {
            for (labels, first, step) in series(line) {
                let before = self.values.get(&labels).copied();
                let usual = if step == 0.0 { first } else { before.unwrap_or(first) };
                *values.entry(labels).or_insert(usual) += step * times;
            }
        };
        let ready = cluster.server.list(&pods(), Some(NAMESPACE));
        let ready = ready.iter().filter(|pod| is_ready(pod));
        let lines = |is_new| if is_new { self.new } else { &self.case.good };
        let is_new = |pod: &Value| pod["spec"]["containers"][0]["image"] == "web:v2";
        if self.case.shared {
            let any_new = ready.clone().any(|pod| is_new(pod));
            lines(any_new).lines().for_each(|line| show(line, 1.0));
        } else {
            for pod in ready {
                let name = pod["metadata"]["name"].as_str().unwrap();
                let key = (NAMESPACE.to_owned(), name.to_owned());
                let count = |of: &BTreeMap<_, u64>| of.get(&key).copied().unwrap_or(0);
                let requests = count(&answered) - count(&self.answered);
                let times = if self.case.requests { requests as f64 / 100.0 } else { 1.0 };
                let canary = is_canary(cluster, pod);
                for line in lines(is_new(pod)).lines() {
                    show(&of_pod(line, NAMESPACE, name, canary), times);
                }
            }
        }
        let now = cluster.clock.now().as_millisecond();
        let db = cluster.db();
        let mut db = db.write().unwrap();
        for labels in self.values.keys().filter(|labels| !values.contains_key(labels)) {
            db.append(labels, now, stale_marker()).unwrap();
        }
        for (labels, value) in &values {
            db.append(labels, now, *value).unwrap();
        }
        (self.values, self.answered) = (values, answered);
    }
}

/// Whether a pod is behind the canary's Service.
fn is_canary(cluster: &Cluster, pod: &Value) -> bool {
    let service = get(&cluster.server, &services(), "web-canary");
    let Some(selector) = service["spec"]["selector"].as_object() else { return false };
    selector.iter().all(|(label, value)| pod["metadata"]["labels"][label] == *value)
}

/// The Rollout as docs/templates.md writes it.
fn rollout(template: &str) -> Value {
    let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
    let mut args = vec![
        json!({"name": "namespace", "valueFrom": field("metadata.namespace")}),
        json!({"name": "workload", "valueFrom": field("spec.workloadRef.name")}),
        json!({"name": "hash", "valueFrom": {"podTemplateHashValue": "Latest"}}),
    ];
    let known = ["namespace", "workload", "hash"];
    let others = GIVEN.iter().filter(|(name, _)| !known.contains(name));
    args.extend(others.map(|(name, value)| json!({"name": name, "value": value})));
    let templates = json!([{"templateName": template, "clusterScope": true}]);
    shape(json!([
        {"replicas": "25%", "traffic": "25%", "analysis": {"templates": templates, "args": args}},
        {"replicas": "100%", "traffic": "100%"},
    ]))
    .rollout()
}

fn shape(steps: Value) -> Shape {
    Shape {
        replicas: 4,
        max_surge: json!("25%"),
        max_unavailable: json!("25%"),
        routed: true,
        steps,
        ready_after: seconds(2),
    }
}

/// A cluster after a release from a good version to one that shows these lines.
struct Released {
    rollout: Value,
    cluster: Cluster,
    /// Requests that no pod answered since the release began.
    lost: u64,
}

async fn released(name: &str, template: &Value, case: &Case, new: &str) -> Released {
    let mut cluster = Cluster::new(Options {
        start: "2026-01-01T00:00:00Z".parse().unwrap(),
        seed: 1,
        kubelet: kubelet::Behaviours::default().ready_after(seconds(2)),
        answers: Behaviours::default(),
        visitors: (vec![Visitor::plain("web.test")], RATE),
    })
    .unwrap();
    // The pods' own pages have some of the names: all series are the exporters'.
    cluster.scrape_every(seconds(1_000_000));
    let deployment = shape(Value::Null).deployment("web:v1");
    let objects = [deployment, Shape::service(), Shape::route(), template.clone(), rollout(name)];
    for object in objects {
        cluster.server.create("user", object).unwrap();
    }
    let (values, answered) = Default::default();
    let mut exporters = Exporters { case, new, values, answered };
    let (mut rollout, mut lost) = (Value::Null, 0);
    for scrape in 0..SCRAPES_MAX {
        if scrape == 4 {
            lost = cluster.outcomes().failed_elsewhere;
            set_image(&cluster.server, "web:v2");
        }
        cluster.run_for(seconds(SCRAPE_SECONDS)).await;
        exporters.scrape(&cluster);
        rollout = get(&cluster.server, &rollouts(), WEB);
        if !rollout["status"]["lastRelease"].is_null() {
            break;
        }
    }
    let lost = cluster.outcomes().failed_elsewhere - lost;
    Released { rollout, cluster, lost }
}

/// A release of one template: to a version that is bad in a metric, or to a good one.
async fn play(name: &str, template: &Value, case: &Case, bad: Option<&str>) {
    let new = bad.map_or(&case.good, |metric| &case.bad[metric]);
    let Released { rollout, cluster, lost } = Box::pin(released(name, template, case, new)).await;
    let status = &rollout["status"];
    let last = &status["lastRelease"];
    let told = || format!("{name}, bad in {bad:?}: {}\n{}", status, cluster.transcript);
    let reason = last["reason"].as_str().unwrap_or_default();
    match bad {
        None => assert_eq!(last["decision"], "Promoted", "{}", told()),
        Some(metric) => {
            assert_eq!(last["decision"], "RolledBack", "{}", told());
            assert!(reason.contains(&format!("{metric}: ")), "{}", told());
        }
    }
    assert!(cluster.violations.is_empty(), "{:?}", cluster.violations);
    assert_eq!(lost, 0, "{}", told());
}

#[test]
fn by_every_template_a_good_release_is_promoted_and_one_bad_in_any_metric_rolled_back() {
    let (cases, library) = (cases(), library());
    let mut all = Vec::new();
    for (name, text) in &library {
        let template: Value = serde_saphyr::from_str(text).unwrap();
        let bad = cases[name].bad.keys().map(|metric| Some(metric.as_str()));
        all.extend([None].into_iter().chain(bad).map(|bad| (name, template.clone(), bad)));
    }
    each(all.len(), |i| {
        let (name, template, bad) = &all[i];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(name, template, &cases[*name], *bad));
    });
}
