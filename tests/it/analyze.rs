//! `sluice analyze` against a real Prometheus: what it says, and what its exit code says.

use std::io::Write;
use std::process::{Command, Stdio};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use sluice::clock::{Clock, SystemClock};
use sluice::sim::promql::Labels;

use crate::prometheus::{Prometheus, Seeded};

const TEMPLATES: &str = r#"
apiVersion: sluice.dev/v1beta1
kind: AnalysisTemplate
metadata: {name: errors}
spec:
  args: [{name: app}, {name: max, value: "0.01"}]
  templates: [{templateName: traffic}]
  dryRun: [{metricName: traffic}]
  metrics:
  - name: errors
    interval: 30s
    count: 10
    successCondition: result[0] <= {{args.max}}
    failureLimit: 3
    provider:
      prometheus:
        address: http://prometheus.nowhere.invalid:9090
        query: |
          sum(rate(http_requests_total{app="{{args.app}}",code=~"5.."}[2m]))
            /
          sum(rate(http_requests_total{app="{{args.app}}"}[2m]))
---
apiVersion: sluice.dev/v1beta1
kind: AnalysisTemplate
metadata: {name: traffic}
spec:
  args: [{name: app}]
  metrics:
  - name: traffic
    failureCondition: result[0] > 1000
    provider:
      prometheus: {query: 'sum(rate(http_requests_total{app="{{args.app}}"}[2m]))'}
"#;

/// Good for 20 minutes, then every tenth request fails for 20 minutes until `end_ms`.
fn requests(end_ms: i64) -> Vec<Seeded> {
    let series = |code: &str, good: f64, bad: f64| {
        let mut value = 0.0;
        let samples = (0..240).map(|i| {
            value += if i < 120 { good } else { bad };
            (end_ms - (239 - i) * 10_000, value)
        });
        let labels = Labels::new("http_requests_total", [("app", "web"), ("code", code)]);
        Seeded { labels, samples: samples.collect() }
    };
    vec![series("200", 100.0, 90.0), series("500", 0.1, 10.0)]
}

/// The exit code and both outputs of `sluice analyze -f -` on `text`.
fn analyze(text: &str, args: &[&str]) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["analyze", "-f", "-"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let read = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), read(output.stdout), read(output.stderr))
}

async fn seeded() -> Option<(Prometheus, Timestamp)> {
    let Some(real) = Prometheus::start().await else {
        let reason = "prometheus cannot be started: set PROMETHEUS or install the package";
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{reason}");
        println!("SKIP: {reason}");
        return None;
    };
    let end = SystemClock.now();
    real.write(&requests(end.as_millisecond())).await;
    Some((real, end))
}

#[tokio::test]
async fn a_bad_release_fails_now_and_passed_half_an_hour_ago() {
    let Some((real, end)) = seeded().await else { return };
    let given = ["--template", "errors", "--arg", "app=web", "--provider-address", &real.url];
    let (code, said, complaint) = analyze(TEMPLATES, &given);
    assert_eq!((code, complaint.as_str()), (1, ""), "{said}");
    assert!(!said.contains('\u{1b}'), "no colours without a terminal: {said:?}");
    let head = said.lines().next().unwrap();
    assert_eq!(
        head.split_whitespace().collect::<Vec<_>>(),
        ["DECISION", "METRIC", "RESULT", "CONDITION", "REASON"]
    );
    let row = said.lines().nth(1).unwrap();
    assert!(row.starts_with("Fail") && row.contains("result[0] <= 0.01"), "{said}");
    assert!(said.contains(r#"http_requests_total{app="web",code=~"5.."}"#), "{said}");
    assert!(said.contains(&format!("errors at {}:", real.url)), "{said}");
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("errors Fail: errors: 0.1"), "{last}");

    let earlier = (end - SignedDuration::from_mins(25)).to_string();
    for at in [earlier.as_str(), "25m"] {
        let (code, said, complaint) =
            analyze(TEMPLATES, &[&given[..], &["--at", at, "-o", "json"]].concat());
        assert_eq!((code, complaint.as_str()), (0, ""), "{at}: {said}");
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!((&said["decision"], &said["template"]), (&"Pass".into(), &"errors".into()));
        let errors = &said["metrics"][0];
        assert_eq!(errors["successCondition"], "result[0] <= 0.01");
        assert!(errors["reason"].as_str().unwrap().starts_with("0.000999"), "{errors}");
        assert!(errors["query"].as_str().unwrap().contains(r#"app="web""#), "{errors}");
        assert_eq!(said["metrics"][1]["decides"], false);
    }
}

#[tokio::test]
async fn no_data_and_no_server_are_neither_a_pass_nor_a_failure() {
    let Some((real, _)) = seeded().await else { return };
    let given = ["--template", "errors", "--arg", "app=absent", "--provider-address"];
    let (code, said, _) = analyze(TEMPLATES, &[&given[..], &[&real.url]].concat());
    assert_eq!(code, 2, "{said}");
    assert!(said.lines().nth(1).unwrap().starts_with("No data"), "{said}");
    assert!(said.contains("the query returned an empty result"), "{said}");

    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!("http://{free}");
    let (code, said, _) = analyze(TEMPLATES, &[&given[..], &[&nobody, "-o", "yaml"]].concat());
    assert_eq!(code, 2, "{said}");
    let said: Value = serde_saphyr::from_str(&said).unwrap();
    assert_eq!(said["decision"], "Inconclusive");
    let errors = &said["metrics"][0];
    assert_eq!(errors["decision"], "Error");
    let reason = errors["reason"].as_str().unwrap();
    assert!(reason.starts_with("provider unreachable") && reason.contains(&nobody), "{reason}");
}

#[tokio::test]
async fn a_metric_provider_and_its_secret_are_read_from_the_files() {
    let Some((real, _)) = seeded().await else { return };
    let text = format!(
        r#"
apiVersion: sluice.dev/v1beta1
kind: MetricProvider
metadata: {{name: shared}}
spec: {{address: "{}", auth: {{bearer: {{name: token, key: value}}}}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: token}}
stringData: {{value: abc}}
---
apiVersion: argoproj.io/v1alpha1
kind: ClusterAnalysisTemplate
metadata: {{name: written-for-argo}}
spec:
  metrics:
  - name: age
    successCondition: result < 1700000001
    provider: {{ref: shared, prometheus: {{query: time()}}}}
"#,
        real.url
    );
    let (code, said, complaint) = analyze(&text, &["--at", "2023-11-14T22:13:20Z"]);
    assert_eq!(code, 0, "{said}{complaint}");
    assert!(said.contains("1700000000 < 1700000001"), "{said}");
    assert!(said.contains("age at MetricProvider shared:"), "{said}");
    let (code, said, _) = analyze(&text.replace("name: token}", "name: other}"), &[]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("Secret \"token\" has no key \"value\""), "{said}");
}

#[test]
fn wrong_input_has_an_exit_code_of_its_own_and_says_what_to_write() {
    let cases: &[(&str, &[&str], &str)] = &[
        (TEMPLATES, &[], "arguments without a value: write --arg app=VALUE"),
        (TEMPLATES, &["--arg", "ap=web"], "no such argument; it has app, max"),
        (TEMPLATES, &["--arg", "app"], "write --arg NAME=VALUE"),
        (TEMPLATES, &["--arg", "app=web", "--at", "soon"], "write 2026-11-21T18:00:00Z, or 90m"),
        (TEMPLATES, &["--template", "other"], "there are errors, traffic"),
        (TEMPLATES, &["--arg", "app=web", "--provider-address", "here"], "--provider-address"),
        (TEMPLATES, &["--unknown"], "unexpected argument"),
        ("kind: Service", &[], "no AnalysisTemplate in the files"),
        ("a: [", &[], "is no YAML"),
    ];
    for (text, args, expected) in cases {
        let (code, said, complaint) = analyze(text, args);
        assert_eq!(code, 3, "{args:?}: {said}{complaint}");
        assert!(complaint.contains(expected), "{args:?}: {complaint}");
    }
    let broken = TEMPLATES.replace("result[0] <=", "result[0] <<");
    let (code, _, complaint) = analyze(&broken, &["--arg", "app=web"]);
    assert_eq!(code, 3);
    assert!(complaint.contains("spec.metrics[0].successCondition"), "{complaint}");
    let compared = r#"
apiVersion: sluice.dev/v1beta1
kind: AnalysisTemplate
metadata: {name: compared}
spec:
  metrics:
  - {name: memory, compare: {gauge: container_memory_working_set_bytes, harmful: 20%}}
"#;
    let (code, _, complaint) = analyze(compared, &[]);
    assert_eq!(code, 3);
    assert!(complaint.contains("metric memory: compare needs both versions"), "{complaint}");
    let missing = TEMPLATES.split("---").next().unwrap();
    let (code, _, complaint) = analyze(missing, &["--arg", "app=web"]);
    assert_eq!(code, 3);
    assert!(complaint.contains("\"traffic\" not found"), "{complaint}");
}
