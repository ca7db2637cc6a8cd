//! `sluice backtest` on a real Prometheus: a history whose law is known, against direct simulation.
//!
//! `BACKTEST_DAYS=14 BACKTEST_STEP=15` makes the history longer and finer; `BACKTEST_OUT=FOLDER` keeps the
//! page and the JSON.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use sluice::analysis::backtest::Draw;
use sluice::analysis::backtest::kayenta::{Config, Looks};
use sluice::analysis::backtest::ours::{Played, replay};
use sluice::analysis::backtest::signal::comparison;
use sluice::analysis::history::Window;
use sluice::analysis::judge::sequential::{Kind, PodReading, Reading, Rules, Tick};
use sluice::clock::{Clock, SystemClock};
use sluice::sim::promql::Labels;

use crate::prometheus::{Prometheus, Seeded};

const SEED: u64 = 20_250_601;
const PODS: usize = 10;
/// Requests a second of each pod, and the share of bad ones.
const RATE: f64 = 10.0;
const BAD: f64 = 0.01;
/// The rule: so many bad ones in five minutes, at the third look.
const LIMIT: f64 = 0.0145;

const FILES: &str = r#"
apiVersion: sluice.dev/v1beta1
kind: AnalysisTemplate
metadata: {name: golden}
spec:
  args: [{name: app}]
  templates: [{templateName: errors}]
  metrics:
  - name: requests
    interval: STEPs
    compare:
      ratio:
        bad: http_requests_total{app="{{args.app}}",code=~"5.."}
        total: http_requests_total{app="{{args.app}}"}
---
apiVersion: argoproj.io/v1alpha1
kind: AnalysisTemplate
metadata: {name: errors}
spec:
  args: [{name: app}, {name: hash}]
  metrics:
  - name: error-rate
    interval: 1m
    failureLimit: 2
    successCondition: result[0] <= 0.0145
    provider:
      prometheus:
        query: |
          sum(rate(http_requests_total{app="{{args.app}}",hash="{{args.hash}}",code=~"5.."}[5m]))
            /
          sum(rate(http_requests_total{app="{{args.app}}",hash="{{args.hash}}"}[5m]))
"#;

const FLAGGER: &str = r#"
apiVersion: flagger.app/v1beta1
kind: Canary
metadata: {name: web, namespace: shop}
spec:
  targetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  analysis:
    interval: 1m
    threshold: 5
    metrics:
    - {name: success, templateRef: {name: success}, thresholdRange: {min: 99}, interval: 1m}
---
apiVersion: flagger.app/v1beta1
kind: MetricTemplate
metadata: {name: success, namespace: shop}
spec:
  provider: {type: prometheus, address: "http://prometheus.nowhere.invalid:9090"}
  query: |
    100 * sum(rate(http_requests_total{pod=~"{{ target }}-.*",code!~"5.."}[{{ interval }}]))
      / sum(rate(http_requests_total{pod=~"{{ target }}-.*"}[{{ interval }}]))
"#;

fn number(name: &str, usual: f64) -> f64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Writes the history up to `end_ms`, in slices of time as a scraper would.
async fn write(real: &Prometheus, end_ms: i64, days: f64, step: f64) {
    let ticks = (days * 86_400.0 / step) as i64 + 40;
    let step_ms = (step * 1e3) as i64;
    let mut draw = Draw::of(SEED, &[1]);
    let mut counters = [[1e3, 1e5]; PODS];
    let mut tick = 0;
    while tick <= ticks {
        let until = (tick + 480).min(ticks + 1);
        let mut slice: Vec<Seeded> = Vec::new();
        for pod in 0..PODS {
            for code in ["500", "200"] {
                let name = format!("web-5d4b-{pod}");
                let labels = [("app", "web"), ("hash", "5d4b"), ("code", code), ("pod", &name)];
                let labels = Labels::new("http_requests_total", labels);
                slice.push(Seeded { labels, samples: Vec::new() });
            }
        }
        for at in tick..until {
            for (pod, [bad, good]) in counters.iter_mut().enumerate() {
                let requests = draw.poisson(RATE * step);
                let failed = draw.binomial(requests, BAD);
                (*bad, *good) = (*bad + failed, *good + requests - failed);
                let when = end_ms - (ticks - at) * step_ms;
                slice[2 * pod].samples.push((when, *bad));
                slice[2 * pod + 1].samples.push((when, *good));
            }
        }
        real.write(&slice).await;
        tick = until;
    }
}

pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) said: String,
    pub(crate) complaint: String,
    /// The most memory that it held, in MB.
    peak: f64,
}

/// Runs `sluice backtest` and looks at its memory meanwhile.
pub(crate) fn backtest(files: &Path, args: &[&str]) -> Ran {
    let out = tempfile::tempfile().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["backtest", "-f", files.to_str().unwrap()])
        .args(args)
        .stdin(Stdio::null())
        .stdout(out.try_clone().unwrap())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut peak = 0.0;
    let status = loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
        let line = status.ok().and_then(|s| {
            let line = s.lines().find(|line| line.starts_with("VmHWM"))?.to_owned();
            line.split_whitespace().nth(1)?.parse::<f64>().ok()
        });
        peak = line.map_or(peak, |kb| kb / 1024.0);
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let complaint = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    let mut out = out;
    std::io::Seek::rewind(&mut out).unwrap();
    let said = std::io::read_to_string(out).unwrap();
    Ran { code: status.code().unwrap(), said, complaint, peak }
}

/// One hour drawn directly: the canary is one pod of ten, `times` as bad from the start on. And the
/// minutes before it, which the rule looks back on.
fn simulated(draw: &mut Draw, times: f64, step: f64) -> (Window, Vec<[f64; 2]>) {
    let start = Timestamp::from_second(1_700_000_040).unwrap();
    let tick = SignedDuration::try_from_secs_f64(step).unwrap();
    let before = (600.0 / step) as i64;
    // Lives as those of the history: what pods differ by is read from them.
    let mut counters = [[1e3, 1.01e5]; PODS];
    let (mut ticks, mut canary) = (Vec::new(), Vec::new());
    for at in -before..=(3_600.0 / step) as i64 {
        let mut arms = [Reading::default(), Reading::default()];
        for (pod, [bad, total]) in counters.iter_mut().enumerate() {
            let requests = draw.poisson(RATE * step);
            let worse = if pod == 0 && at > 0 { times } else { 1.0 };
            *bad += draw.binomial(requests, BAD * worse);
            *total += requests;
            if pod == 0 {
                canary.push([*bad, *total]);
            }
            let reading = PodReading { created: None, values: vec![*bad, *total] };
            arms[usize::from(pod > 0)].pods.insert(format!("web-5d4b-{pod}"), reading);
        }
        let [canary, stable] = arms;
        if at >= 0 {
            let since = tick * i32::try_from(at).unwrap();
            ticks.push((start + since, Tick { canary, stable }));
        }
    }
    (Window { from: start, tick, canary: vec!["web-5d4b-0".to_owned()], ticks }, canary)
}

/// The rule, by hand: every minute the share of five minutes, of which a rate sees what lies between
/// the first and the last point; the third that is above the limit rolls back.
fn rule(canary: &[[f64; 2]], step: f64) -> Option<f64> {
    let (before, minute) = ((600.0 / step) as usize, (60.0 / step) as usize);
    let span = (300.0 / step) as usize - 1;
    let mut failed = 0;
    for look in 0..=60 {
        let now = before + look * minute;
        let then = now - span;
        let [bad, all] = [0, 1].map(|part: usize| canary[now][part] - canary[then][part]);
        failed += usize::from(bad / all > LIMIT);
        if failed == 3 {
            return Some(look as f64);
        }
    }
    None
}

/// Minutes to the rollback in windows that were drawn directly.
fn direct(runs: usize, times: f64, step: f64) -> [Vec<Option<f64>>; 3] {
    let mut draw = Draw::of(SEED, &[2, (times * 8.0) as u64]);
    let of = [comparison("requests", Kind::Ratio)];
    let kayenta = Config::of(None, &of).unwrap();
    let mut found = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..runs {
        let (window, canary) = simulated(&mut draw, times, step);
        let windows = std::slice::from_ref(&window);
        let minutes = |at: Timestamp| at.duration_since(window.from).as_secs_f64() / 60.0;
        let ends = window.ticks.last().map(|(at, _)| *at);
        let rules = Rules { ends, ..Rules::level(0.01) };
        let warm_up = SignedDuration::from_secs(15);
        let played = [Played { window: &window, of: &of[0], warm_up }];
        let said = replay(&played, &rules);
        found[0].push(said.failed.map(minutes));
        let looks = Looks::Each(SignedDuration::from_mins(5));
        found[1].push(kayenta.replay(windows, &of, looks).map(minutes));
        found[2].push(rule(&canary, step));
    }
    found
}

/// What was measured on the server is what simulation gives, within four standard errors.
fn agree(name: &str, summary: &Value, direct: &[Option<f64>]) {
    let rollback = &summary["rollback"];
    let (hits, of) = (rollback["hits"].as_f64().unwrap(), rollback["of"].as_f64().unwrap());
    let mut times: Vec<f64> = direct.iter().flatten().copied().collect();
    let (found, runs) = (times.len() as f64, direct.len() as f64);
    let pooled = (hits + found) / (of + runs);
    let error = (pooled * (1.0 - pooled) * (1.0 / of + 1.0 / runs)).sqrt();
    let difference = hits / of - found / runs;
    println!("{name}: {hits} of {of} against {found} of {runs}");
    assert!(difference.abs() <= 4.0 * error + 1e-9, "{name}: {difference} is over 4 x {error}");
    let Some(median) = summary["medianMinutes"].as_f64().filter(|_| hits >= 12.0) else { return };
    times.sort_by(f64::total_cmp);
    // The median of n lies between the quantiles 1/2 +- 4/(2 sqrt n) of the law.
    let reach = 2.0 / hits.sqrt();
    let quantile =
        |q: f64| times[((q.clamp(0.0, 1.0)) * (times.len() - 1) as f64).round() as usize];
    let (low, high) = (quantile(0.5 - reach), quantile(0.5 + reach));
    println!("{name}: median {median} min, simulation {} ({low} to {high})", quantile(0.5));
    assert!((low..=high).contains(&median), "{name}: median {median} not in {low} to {high}");
}

pub(crate) async fn started() -> Option<Prometheus> {
    let real = Prometheus::start().await;
    if real.is_none() {
        let reason = "prometheus cannot be started: set PROMETHEUS or install the package";
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{reason}");
        println!("SKIP: {reason}");
    }
    real
}

pub(crate) fn judge<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["judges"].as_array().unwrap().iter().find(|judge| judge["name"] == name).unwrap()
}

fn by_arithmetic(flagger: &Value, kayenta: &Value) {
    // 1 % of errors is Flagger's limit itself, so that half of all checks fail.
    assert_eq!(flagger["unchanged"]["rollback"]["share"], 1.0);
    let excess = &kayenta["regressions"][0]["found"]["excessBadRequests"];
    assert!(excess.as_f64().unwrap() > 300.0, "an hour of x2 has 360 more: {excess}");
}

fn stands_alone(page: &str) {
    assert_eq!(page.matches("<svg").count(), 4, "rollbacks, two regressions, evidence");
    for elsewhere in ["<script", "src=", "<link", "url(", "@import"] {
        assert!(!page.contains(elsewhere), "the page loads something: {elsewhere}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backtest_of_a_known_history_agrees_with_direct_simulation() {
    let Some(real) = started().await else { return };
    let (days, step) = (number("BACKTEST_DAYS", 2.0), number("BACKTEST_STEP", 60.0));
    // Fixed, because the seed and the time draw the canary.
    let end = 1_748_736_000;
    write(&real, end * 1_000, days, step).await;
    let folder = tempfile::tempdir().unwrap();
    let out = std::env::var("BACKTEST_OUT").map_or(folder.path().to_owned(), PathBuf::from);
    let files = folder.path().join("files.yaml");
    let (html, json) = (out.join("report.html"), out.join("report.json"));
    let text = FILES.replace("STEP", &step.to_string());
    std::fs::write(&files, format!("{text}---{FLAGGER}")).unwrap();
    let until = Timestamp::from_second(end).unwrap().to_string();
    let days_text = days.to_string();
    let wanted =
        [("html", &html), ("json", &json)].map(|(f, path)| format!("{f}={}", path.display()));
    let common = format!(
        "--prometheus {} --arg app=web --arg target=web-5d4b --canary-arg hash --until {until} \
         --rate 1000 --inject errors=2 --inject errors=3",
        real.url
    );
    let common: Vec<&str> = common.split(' ').collect();
    let started = SystemClock.now();
    let [page, data] = &wanted;
    let more = ["--days", &days_text, "-o", "table", "-o", page, "-o", data];
    let long = [&common[..], &more].concat();
    let ran = backtest(&files, &long);
    let took = SystemClock.now().duration_since(started);
    assert_eq!((ran.code, ran.complaint.as_str()), (0, ""), "{}", ran.said);
    println!("{days} days every {step} s: {took:#}, peak {:.0} MB, seed {SEED}", ran.peak);
    println!("{}", ran.said);
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let windows = (days * 24.0) as u64;
    assert_eq!(report["windows"]["used"], windows, "{}", report["windows"]);
    let signal = &report["signals"][0];
    assert!((signal["bad"].as_f64().unwrap() / BAD - 1.0).abs() < 0.05, "{signal}");
    assert!((signal["perSecond"].as_f64().unwrap() / (RATE * PODS as f64) - 1.0).abs() < 0.02);
    let judge = |name: &str| judge(&report, name);
    let names = ["Sluice", "Kayenta, every 5 min", "golden (Argo)"];
    for (at, times) in [1.0, 2.0, 3.0].into_iter().enumerate() {
        let simulated = direct(400, times, step);
        for (name, direct) in names.iter().zip(&simulated) {
            let judge = judge(name);
            let summary = match at {
                0 => &judge["unchanged"],
                at => &judge["regressions"][at - 1]["found"],
            };
            agree(&format!("{name} x{times}"), summary, direct);
        }
    }
    by_arithmetic(judge("web (Flagger)"), judge("Kayenta, once"));
    let page = std::fs::read_to_string(&html).unwrap();
    stands_alone(&page);
    // What is held is a window or two, however long the history is.
    let half = (days / 4.0).to_string();
    let short = backtest(&files, &[&common[..], &["--days", &half, "-o", "json"]].concat());
    assert!(ran.peak < short.peak * 1.25 + 8.0, "{} MB, then {} MB", short.peak, ran.peak);
    let strict = backtest(&files, &[&common[..], &["--days", &half, "--max-false", "5%"]].concat());
    assert_eq!(strict.code, 1, "Flagger's checks roll back good releases: {}", strict.said);
    assert!(strict.said.contains("Your rule web (Flagger) would have rolled back 100% "));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_or_missing_has_a_remedy_and_an_exit_code() {
    let Some(real) = started().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("files.yaml");
    std::fs::write(&files, FILES.replace("STEP", "60")).unwrap();
    let given = ["--prometheus", &real.url, "--arg", "app=web"];
    let run = |more: &[&str]| backtest(&files, &[&given[..], more].concat());
    let empty = run(&["--canary-arg", "hash", "--days", "1", "--rate", "1000"]);
    assert_eq!(empty.code, 2, "{}", empty.complaint);
    assert!(empty.complaint.contains("no series (24)"), "{}", empty.complaint);
    for (more, words) in [
        (vec![], "--canary-arg NAME"),
        (vec!["--canary-arg", "hash", "--inject", "memory=2"], "there is requests"),
        (vec!["--canary-arg", "hash", "--inject", "errors"], "write errors=2"),
        (vec!["--canary-arg", "hash", "--window", "10s"], "--window"),
        (vec!["--canary-arg", "hash", "--days", "0"], "--days 0"),
        (vec!["--canary-arg", "hash", "--canary", "0%"], "--canary 0"),
        (vec!["--canary-arg", "hash", "-o", "pdf"], "html=FILE"),
    ] {
        let refused = run(&more);
        assert_eq!(refused.code, 3, "{more:?}: {}", refused.complaint);
        assert!(refused.complaint.contains(words), "{more:?}: {}", refused.complaint);
    }
    let nobody = ["--prometheus", "http://127.0.0.1:1", "--arg", "app=web", "--canary-arg", "hash"];
    let unreachable = backtest(&files, &nobody);
    assert_eq!(unreachable.code, 1);
    assert!(unreachable.complaint.contains("http://127.0.0.1:1"), "{}", unreachable.complaint);
}

const KAYENTA: &str = r#"
apiVersion: sluice.dev/v1beta1
kind: AnalysisTemplate
metadata: {name: web}
spec:
  args: [{name: old}, {name: new}]
  kayentaConfig:
    name: web
    configVersion: "1.0"
    judge: {name: NetflixACAJudge-v1.0}
    metrics:
    - name: error-ratio
      groups: [errors]
      scopeName: default
      query:
        type: prometheus
        customInlineTemplate: |-
          PromQL:sum(rate(http_requests_total{hash="${scope}",code=~"5.."}[1m]))
            / sum(rate(http_requests_total{hash="${scope}"}[1m]))
      analysisConfigurations: {canary: {direction: increase}}
    classifier: {groupWeights: {errors: 100}, scoreThresholds: {pass: 95, marginal: 75}}
  kayenta:
    interval: 20m
    count: 3
    control: {scope: "{{args.old}}"}
    experiment: {scope: "{{args.new}}"}
---
apiVersion: sluice.dev/v1beta1
kind: AnalysisTemplate
metadata: {name: series}
spec:
  metrics:
  - name: judged
    interval: 30m
    count: 2
    compare:
      series: sum(rate(http_requests_total{code=~"5.."}[1m])) / sum(rate(http_requests_total[1m]))
      judge: {kayenta: {canary: {direction: increase}}}
"#;

/// Kayenta's interval of 98 % fails few looks at independent minutes; five times the errors are found at the
/// first judgement.
#[tokio::test(flavor = "multi_thread")]
async fn a_canary_config_and_its_loop_are_replayed_with_their_own_queries() {
    let Some(real) = started().await else { return };
    let end = 1_748_736_000;
    write(&real, end * 1_000, 1.0, 15.0).await;
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("files.yaml");
    std::fs::write(&files, KAYENTA).unwrap();
    let until = Timestamp::from_second(end).unwrap().to_string();
    let given = ["--prometheus", &real.url, "--until", &until, "--days", "1", "--rate", "1000"];
    let config = ["--template", "web", "--canary-arg", "new", "--stable-arg", "old"];
    for (more, name, first) in
        [(&config[..], "web", 20.0), (&["--template", "series"], "series", 30.0)]
    {
        let more = [&given[..], more, &["--inject", "errors=5", "-o", "json"]].concat();
        let ran = backtest(&files, &more);
        assert_eq!(ran.code, 0, "{}", ran.complaint);
        let report: Value = serde_json::from_str(&ran.said).unwrap();
        let judge = judge(&report, name);
        let good = &judge["unchanged"]["rollback"];
        assert_eq!(good["of"], 24, "{report}");
        assert!(good["hits"].as_u64().unwrap() <= 2, "{good}");
        let found = &judge["regressions"][0]["found"];
        assert_eq!(found["rollback"]["hits"], 24, "{found}");
        assert_eq!(found["medianMinutes"], first, "{found}");
    }
    let short = [&given[..], &config, &["--window", "45m", "-o", "json"]].concat();
    let ran = backtest(&files, &short);
    let said = "2 of the 3 judgements of kayenta lie within a window: --window 1h has all";
    assert!(ran.said.contains(said), "{} {}", ran.said, ran.complaint);
}

/// Series of a mesh without pods: limits are judged on all traffic, and nothing is compared.
#[tokio::test(flavor = "multi_thread")]
async fn limits_on_series_without_pods_are_judged_on_all_traffic() {
    let Some(real) = started().await else { return };
    let end = 1_748_736_000;
    write(&real, end * 1_000, 0.25, 60.0).await;
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("files.yaml");
    std::fs::write(&files, FLAGGER).unwrap();
    let until = Timestamp::from_second(end).unwrap().to_string();
    let given = ["--prometheus", &real.url, "--until", &until, "--days", "0.25", "--rate", "1000"];
    let more = ["--arg", "target=web-5d4b", "--pod-label", "zone", "-o", "json"];
    let ran = backtest(&files, &[&given[..], &more].concat());
    assert_eq!(ran.code, 0, "{}", ran.complaint);
    let report: Value = serde_json::from_str(&ran.said).unwrap();
    let judges = report["judges"].as_array().unwrap();
    assert_eq!((judges.len(), &judges[0]["name"]), (1, &"web (Flagger)".into()), "{report}");
    assert!(report["notes"][0].as_str().unwrap().contains("--pod-label"), "{report}");
}

const LATENCY: &str = r#"
apiVersion: sluice.dev/v1beta1
kind: AnalysisTemplate
metadata: {name: saturation}
spec:
  args: [{name: hash}]
  metrics:
  - name: latency
    interval: 60s
    compare: {histogram: 'seconds_bucket{app="web"}', harmful: 25%}
  - name: memory
    interval: 60s
    compare: {gauge: 'working_set_bytes{app="web"}'}
  - name: p99
    interval: 1m
    successCondition: result[0] <= 0.6
    provider:
      prometheus:
        query: |
          histogram_quantile(0.99,
            sum by (le) (rate(seconds_bucket{app="web",hash="{{args.hash}}"}[5m])))
"#;

/// Shares of requests below each bound: the p99 is at 0.48 s.
const BELOW: [(&str, f64); 6] =
    [("0.05", 0.2), ("0.1", 0.65), ("0.25", 0.93), ("0.5", 0.995), ("1", 0.9999), ("+Inf", 1.0)];

/// A day of response times and of memory, a point a minute; memory of pods and of minutes differs by
/// some per cent.
fn saturation(end_ms: i64) -> Vec<Vec<Seeded>> {
    let mut draw = Draw::of(SEED, &[3]);
    let mut sums = [[0.0; 6]; PODS];
    let slice = |hour: i64| {
        let mut series = Vec::new();
        for (pod, sums) in sums.iter_mut().enumerate() {
            let name = format!("web-5d4b-{pod}");
            let base = [("app", "web"), ("hash", "5d4b"), ("pod", name.as_str())];
            let of = |metric: &str, le: Option<&'static str>| {
                let labels = base.into_iter().chain(le.map(|le| ("le", le)));
                Seeded { labels: Labels::new(metric, labels), samples: Vec::new() }
            };
            let mut buckets = BELOW.map(|(le, _)| of("seconds_bucket", Some(le)));
            let mut memory = of("working_set_bytes", None);
            for minute in 0..60 {
                let when = end_ms - (24 * 60 - hour * 60 - minute) * 60_000;
                let (mut left, mut before) = (600.0, 0.0);
                let mut below = 0.0;
                for ((series, sum), (_, share)) in buckets.iter_mut().zip(&mut *sums).zip(BELOW) {
                    let here = draw.binomial(left, (share - before) / (1.0 - before));
                    (left, below, before) = (left - here, below + here, share);
                    *sum += below;
                    series.samples.push((when, *sum));
                }
                let level = 1e8 * (1.0 + 0.01 * pod as f64) * (1.0 + 0.04 * (draw.uniform() - 0.5));
                memory.samples.push((when, level));
            }
            series.extend(buckets);
            series.push(memory);
        }
        series
    };
    (-1..=24).map(slice).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn slower_requests_and_more_memory_are_found_by_the_judges_that_look_at_them() {
    let Some(real) = started().await else { return };
    let end = 1_748_736_000;
    for slice in saturation(end * 1_000) {
        real.write(&slice).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("files.yaml");
    std::fs::write(&files, LATENCY).unwrap();
    let until = Timestamp::from_second(end).unwrap().to_string();
    let given = format!(
        "--prometheus {} --canary-arg hash --until {until} --days 1 --rate 1000 -o json \
         --inject latency=+50% --inject level=+50%",
        real.url
    );
    let ran = backtest(&files, &given.split(' ').collect::<Vec<_>>());
    assert_eq!((ran.code, ran.complaint.as_str()), (0, ""), "{}", ran.said);
    let report: Value = serde_json::from_str(&ran.said).unwrap();
    let share = |name: &str, regression: usize| {
        judge(&report, name)["regressions"][regression]["found"]["rollback"]["share"].as_f64()
    };
    // Not Kayenta: to it, a pod that always holds some per cent more is another version.
    for name in ["Sluice", "Sluice, calibrated", "saturation"] {
        let good = &judge(&report, name)["unchanged"]["rollback"];
        assert_eq!((name, good["hits"].as_u64()), (name, Some(0)), "{good}");
        assert_eq!(
            (name, share(name, 0)),
            (name, Some(1.0)),
            "all requests take half as long again"
        );
    }
    assert_eq!(share("Kayenta, every 5 min", 0), Some(1.0));
    assert_eq!(share("Sluice, calibrated", 1), Some(1.0), "with the noise of its own history");
    assert_eq!(share("Sluice", 1), Some(0.0), "a gauge without a history proves nothing");
    assert_eq!(share("saturation", 1), None, "the rule does not look at memory");
}
