//! What a user would have written: the apps, their routes, the template, the Rollouts.

use serde_json::{Value, json};

use super::cast::{Act, OLD, Style};
use super::pace::Pace;

/// Pods of each app.
pub const REPLICAS: u32 = 4;
/// The template's name.
const TEMPLATE: &str = "golden-signals";

/// The analysis: two signals of the new pods alone, from scraped series.
///
/// A measurement with fewer than `min-rate` requests per second in its window is no measurement: the
/// `and` leaves nothing, and the metric waits for data.
pub fn template(pace: &Pace) -> Value {
    let window = format!("[{}s]", pace.window);
    let requests = |more: &str| {
        format!(
            "sum(rate(http_requests_total{{pod_template_hash=\"{{{{args.canary-hash}}}}\"{more}}}\
             {window}))"
        )
    };
    let (all, failed) = (requests(""), requests(",code=~\"5..\""));
    let buckets = format!(
        "sum by (le) (rate(http_request_duration_seconds_bucket\
         {{pod_template_hash=\"{{{{args.canary-hash}}}}\"}}{window}))"
    );
    let enough = format!("({all} > {{{{args.min-rate}}}})");
    let metric = |name: &str, query: String, good: &str| {
        json!({
            "name": name,
            "initialDelay": format!("{}s", pace.initial_delay),
            "interval": format!("{}s", pace.interval),
            "errorRetry": format!("{}s", pace.interval),
            "count": "{{args.count}}",
            "failureLimit": 1,
            "successCondition": good,
            "provider": {"prometheus": {"query": query}},
        })
    };
    json!({
        "apiVersion": "sluice.dev/v1beta1", "kind": "AnalysisTemplate",
        "metadata": {"name": TEMPLATE},
        "spec": {
            "args": [
                {"name": "canary-hash"},
                {"name": "count"},
                {"name": "min-rate", "value": pace.min_rate.to_string()},
            ],
            "metrics": [
                metric(
                    "error-share",
                    format!("(({failed} or vector(0)) / {all}) and {enough}"),
                    "result[0] <= 0.1",
                ),
                metric(
                    "p95-seconds",
                    format!("histogram_quantile(0.95, {buckets}) and {enough}"),
                    "result[0] <= 0.25",
                ),
            ],
        },
    })
}

/// The app with its Service and its route.
pub fn app(act: &Act) -> Vec<Value> {
    let labels = json!({"app": act.app});
    vec![
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": act.app, "labels": labels},
            "spec": {
                "replicas": REPLICAS,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{
                        "name": "app", "image": act.image(OLD),
                        "ports": [{"containerPort": 8080, "name": "http"}],
                    }]},
                },
            },
        }),
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": act.app, "labels": labels},
            "spec": {
                "selector": labels,
                "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
            },
        }),
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": act.app, "labels": labels},
            "spec": {
                "parentRefs": [{"name": "web"}],
                "hostnames": [act.host()],
                "rules": [{"backendRefs": [{"name": act.app, "port": 80}]}],
            },
        }),
    ]
}

/// The app's Rollout.
pub fn rollout(act: &Act, pace: &Pace) -> Value {
    let mut canary = json!({
        "analysis": stanza(None),
        "steps": steps(act.style, pace),
    });
    if act.style != Style::Batches {
        canary["trafficRoutings"] =
            json!([{"service": act.app, "gateway": {"httpRouteName": act.app}}]);
    }
    json!({
        "apiVersion": "sluice.dev/v1beta1", "kind": "Rollout",
        "metadata": {"name": act.app},
        "spec": {
            "workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": act.app},
            "progressDeadlineSeconds": pace.deadline,
            "strategy": {"canary": canary},
        },
    })
}

fn steps(style: Style, pace: &Pace) -> Value {
    let analysis = || stanza(Some(pace.count));
    match style {
        Style::Weights => json!([
            {"name": "quarter", "replicas": "25%", "traffic": "25%", "analysis": analysis()},
            {"name": "half", "replicas": "50%", "traffic": "50%", "analysis": analysis()},
            {"name": "all", "replicas": "100%", "traffic": "100%"},
        ]),
        Style::AbTest => json!([
            {
                "name": "testers", "replicas": 1, "analysis": analysis(),
                "matches": [
                    {"headers": [{"name": "x-tester", "value": "yes"}]},
                    {"cookies": [{"name": "beta", "value": "1"}]},
                ],
            },
            {"name": "half", "replicas": "50%", "traffic": "50%", "analysis": analysis()},
            {"name": "all", "replicas": "100%", "traffic": "100%"},
        ]),
        Style::Batches => json!([
            {"name": "one", "replicas": 1, "analysis": analysis()},
            {"name": "half", "replicas": "50%", "analysis": analysis()},
            {"name": "all", "replicas": "100%"},
        ]),
    }
}

/// A reference to the template; without a count it measures until the release is over.
fn stanza(count: Option<u32>) -> Value {
    let count = count.unwrap_or(MEASURE_TO_THE_END);
    json!({
        "templates": [{"templateName": TEMPLATE}],
        "args": [
            {"name": "canary-hash", "valueFrom": {"podTemplateHashValue": "Latest"}},
            {"name": "count", "value": count.to_string()},
        ],
    })
}

/// More measurements than any release here has time for.
const MEASURE_TO_THE_END: u32 = 1_000;
