//! The real kubectl on our kinds while releases run: the cluster in the binary, and the controller as a
//! process of its own.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};
use sluice::sim::live::Live;

use crate::kubectl::kubectls;
use crate::stories::ground::{Ground, Plot};
use crate::world::empty_cluster;

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: 'web:v1'}
";

const ROLLOUT: &str = "
apiVersion: sluice.dev/v1beta1
kind: Rollout
metadata: {name: web}
spec:
  workloadRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  strategy:
    canary:
      steps:
      - {replicas: 25%, pause: {}}
      - {replicas: 50%, pause: {}}
      - {replicas: 100%}
";

/// One kubectl in one namespace. A command that does not end in a minute says so itself.
struct Hand {
    program: String,
    plot: Plot,
    folder: tempfile::TempDir,
}

impl Hand {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env("KUBECONFIG", &self.plot.ground.kubeconfig);
        command.env("HOME", self.folder.path());
        command.arg("--cache-dir").arg(self.folder.path().join("cache"));
        command.args(["--request-timeout=60s", "-n", &self.plot.namespace]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn try_with(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut child = self.command(arguments).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let complaint = text(output.stderr);
        if output.status.success() { Ok(text(output.stdout)) } else { Err(complaint) }
    }

    fn with(&self, line: &str, input: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        self.try_with(&words, input)
            .unwrap_or_else(|complaint| panic!("{} {line}: {complaint}", self.program))
    }

    fn run(&self, line: &str) -> String {
        self.with(line, "")
    }

    /// Waits until a field of the Rollout has a value.
    fn wait(&self, field: &str, value: &str) {
        let until = format!("--for=jsonpath={{{field}}}={value}");
        let waited = self.try_with(&["wait", &until, "rollout/web", "--timeout=60s"], "");
        waited.unwrap_or_else(|complaint| panic!("{} {until}: {complaint}", self.program));
    }

    fn until_it_waits_at(&self, step: &str) {
        self.wait(".status.currentStepIndex", step);
        self.wait(".status.currentStepState", "StepPaused");
        self.run("wait --for=condition=Stalled rollout/web --timeout=60s");
    }

    /// Kruise's way to approve, which needs no plugin.
    fn approve(&self) {
        let body = r#"{"status":{"canaryStatus":{"currentStepState":"StepReady"}}}"#;
        self.run(&format!("patch rollout web --subresource=status --type=merge -p {body}"));
    }
}

/// A cluster, and each kubectl with a controller in a namespace of its own.
async fn hands() -> (Live, tempfile::TempDir, Vec<Hand>) {
    let live = empty_cluster().await;
    let folder = tempfile::tempdir().unwrap();
    let (ground, _) = Ground::live(&live, folder.path()).await;
    let ground = Arc::new(ground);
    let mut hands = Vec::new();
    for (n, program) in kubectls().into_iter().enumerate() {
        let mut plot = Plot::new(ground.clone(), &format!("kubectl-{n}")).await;
        plot.start();
        hands.push(Hand { program, plot, folder: tempfile::tempdir().unwrap() });
    }
    (live, folder, hands)
}

/// The rows of a table, without its head.
fn row(text: &str) -> Vec<&str> {
    text.lines().nth(1).unwrap_or_default().split_whitespace().collect()
}

/// Follows `get rollouts -w` until a row has all these words.
struct Watch(Child, std::io::Lines<BufReader<std::process::ChildStdout>>);

impl Watch {
    fn start(hand: &Hand) -> Self {
        let mut child = hand.command(&["get", "rollouts", "-w"]).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self(child, lines)
    }

    fn until(&mut self, words: &[&str]) -> Vec<String> {
        let mut seen = Vec::new();
        while !seen.last().is_some_and(|line: &String| words.iter().all(|w| line.contains(w))) {
            let Some(line) = self.1.next() else { panic!("no {words:?} in {seen:#?}") };
            seen.push(line.unwrap());
        }
        seen
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

/// A whole release by nothing but kubectl.
fn a_release(hand: &Hand) {
    let both = format!("{DEPLOYMENT}---{ROLLOUT}");
    let applied = hand.with("apply -f -", &both);
    assert_eq!(applied, "deployment.apps/web created\nrollout.sluice.dev/web created\n");
    hand.run("scale deploy/web --replicas=4");
    hand.run("wait --for=condition=Ready rollout/web --timeout=60s");
    hand.wait(".status.ready", "4/4");
    let table = hand.run("get sro");
    let head: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(head[..5], ["NAME", "PHASE", "STEP", "WEIGHT", "READY"], "{table}");
    assert_eq!(row(&table)[..2], ["web", "Healthy"], "{table}");

    let mut watch = Watch::start(hand);
    watch.until(&["web", "Healthy"]);
    hand.run("set image deploy/web web=web:v2");
    let seen = watch.until(&["Progressing", "1/3", "step 1: approval"]);
    assert!(seen.len() < 12, "a release is no flood of rows: {seen:#?}");
    hand.until_it_waits_at("1");
    let events = hand.run("get events --field-selector involvedObject.name=web");
    for reason in ["ReleaseStarted", "StepPodsReady"] {
        assert!(events.contains(reason), "{reason} in {events}");
    }
    let described = hand.run("describe rollout web");
    for words in ["Waiting For:", "step 1: approval", "ReleaseStarted", "Kind:         Rollout"] {
        assert!(described.contains(words), "{words} in {described}");
    }

    // Other hands on the workload and the plan, in mid-release.
    hand.run("scale deploy/web --replicas=8");
    hand.wait(".status.canaryStatus.canaryReadyReplicas", "2");
    let newer = DEPLOYMENT.replace("web:v1", "web:v2");
    assert_eq!(hand.with("apply -f -", &newer), "deployment.apps/web configured\n");
    let applied = hand.with("apply --server-side -f -", &newer);
    assert_eq!(applied, "deployment.apps/web serverside-applied\n");
    let frozen = r#"{"spec":{"strategy":{"paused":true}}}"#;
    hand.run(&format!("patch rollout web --type=merge -p {frozen}"));
    hand.wait(".status.message", "waiting: the Rollout is paused: kubectl sluice resume");
    let thawed = r#"[{"op":"remove","path":"/spec/strategy/paused"}]"#;
    hand.run(&format!("patch rollout web --type=json -p {thawed}"));
    hand.until_it_waits_at("1");
    hand.approve();
    hand.until_it_waits_at("2");
    watch.until(&["Progressing", "2/3", "step 2: approval"]);
    hand.approve();
    hand.wait(".status.lastRelease.decision", "Promoted");
    hand.run("wait --for=condition=Ready rollout/web --timeout=60s");
    watch.until(&["web", "Healthy", "8/8"]);

    // What was applied is what there is.
    assert_eq!(hand.with("diff -f -", &format!("{newer}---{ROLLOUT}")), "");
    assert_eq!(hand.with("apply -f -", ROLLOUT), "rollout.sluice.dev/web unchanged\n");
    let replicas = hand.run("get deploy web -o jsonpath={.spec.replicas}{.spec.paused}");
    assert_eq!(replicas, "8");
    let deleted = hand.run("delete rollout web --timeout=60s");
    assert!(deleted.contains("\"web\" deleted"), "{deleted}");
    assert!(hand.run("get deploy web").contains("8/8"));
}

/// What kubectl says of the kinds, and what it is told about a bad object.
fn the_kinds(hand: &Hand) {
    let kinds = hand.run("api-resources --api-group=sluice.dev -o wide");
    for (plural, short, kind) in [
        ("rollouts", "sro", "Rollout"),
        ("analysistemplates", "sat", "AnalysisTemplate"),
        ("clusteranalysistemplates", "scat", "ClusterAnalysisTemplate"),
        ("analysisruns", "sar", "AnalysisRun"),
        ("gates", "", "Gate"),
    ] {
        let line = kinds.lines().find(|line| line.split(' ').next() == Some(plural));
        let line = line.unwrap_or_else(|| panic!("{plural} in {kinds}"));
        let words: Vec<&str> = line.split_whitespace().collect();
        assert!(short.is_empty() || words[1].split(',').any(|s| s == short), "{line}");
        assert!(words.contains(&kind), "{line}");
    }
    let explained = hand.run("explain rollout.spec.strategy.canary.steps.replicas");
    assert!(explained.contains("Pods of the new version"), "{explained}");
    let wrong = ROLLOUT.replace("{replicas: 25%, pause: {}}", "{replicas: 25%, pauses: {}}");
    let refused = hand.try_with(&["apply", "-f", "-"], &wrong).unwrap_err();
    assert!(
        refused.contains("unknown field \"spec.strategy.canary.steps[0].pauses\""),
        "{refused}"
    );
    let by_name = hand.run("get rollouts.v1beta1.sluice.dev -o json");
    let list: Value = serde_json::from_str(&by_name).unwrap();
    assert_eq!(list["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn kubectl_alone_is_enough_for_a_release() {
    let (_live, _folder, hands) = hands().await;
    let playing = hands.into_iter().map(|hand| {
        tokio::task::spawn_blocking(move || {
            the_kinds(&hand);
            a_release(&hand);
            println!("1 stories played with {} on the cluster in the binary", hand.program);
        })
    });
    for played in futures::future::join_all(playing).await {
        played.unwrap();
    }
}
