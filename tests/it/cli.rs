//! The command line as a person or a pipeline types it: the real binary, the controller as a process of
//! its own, the cluster in the binary served over HTTP.

use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sluice::apply::Http;
use sluice::sim::kubelet::Behaviours;
use sluice::sim::live::{Live, Options};
use sluice::sim::pods;
use tokio::io::AsyncBufReadExt;

use crate::stories::by_hand::until;
use crate::stories::ground::{Ground, Plot};
use crate::world::{Shape, WEB, deployments, image_of, rollouts, seconds};

/// What hangs for this long hangs for ever.
const PATIENCE: Duration = Duration::from_secs(120);
const NAMESPACE: &str = "shop";

/// What a command answers.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) complaint: String,
}

impl Said {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code().unwrap(),
            out: text(output.stdout),
            complaint: text(output.stderr),
        }
    }

    /// The newest line that begins with a word.
    fn line(&self, word: &str) -> &str {
        let found = self.out.lines().rfind(|line| line.split(' ').next() == Some(word));
        found.unwrap_or_default()
    }
}

fn command(line: &str, more: &[&str]) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(line.split(' ')).args(more).kill_on_drop(true);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) async fn run(line: &str, more: &[&str]) -> Said {
    let ended = tokio::time::timeout(PATIENCE, command(line, more).output()).await;
    Said::of(ended.unwrap_or_else(|_| panic!("{line} hangs")).unwrap())
}

/// A cluster with a controller and one workload of four pods, which is released in three steps.
struct Desk {
    plot: Plot,
    _live: Live,
    _folder: tempfile::TempDir,
}

impl Desk {
    async fn new(ready_after: i64) -> Self {
        let _already = rustls::crypto::ring::default_provider().install_default();
        let live = Live::without_controller(Options {
            seed: 1,
            nodes: 2,
            kubelet: Behaviours::default().ready_after(seconds(ready_after)),
            answers: pods::Behaviours::default(),
            scrape_every: seconds(60),
        })
        .await
        .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (ground, _) = Ground::live(&live, folder.path()).await;
        let mut plot = Plot::new(Arc::new(ground), NAMESPACE).await;
        let shape = Shape {
            replicas: 4,
            max_surge: json!(1),
            max_unavailable: json!(0),
            routed: false,
            steps: json!([
                {"name": "first", "replicas": "25%", "pause": {}},
                {"replicas": "50%", "pause": {}},
                {"replicas": "100%"},
            ]),
            ready_after: seconds(0),
        };
        for (key, mut object) in
            [(deployments(), shape.deployment("web:v1")), (rollouts(), shape.rollout())]
        {
            object["metadata"]["namespace"] = json!(NAMESPACE);
            Http::post(plot.path(&key, ""), object).send(&plot.ground.user).await.unwrap();
        }
        plot.start();
        let desk = Self { plot, _live: live, _folder: folder };
        desk.expect("status web --watch", 0).await;
        desk
    }

    fn command(&self, line: &str) -> tokio::process::Command {
        let config = self.plot.ground.kubeconfig.to_str().unwrap();
        command(line, &["-n", NAMESPACE, "--kubeconfig", config])
    }

    async fn run(&self, line: &str) -> Said {
        let config = self.plot.ground.kubeconfig.to_str().unwrap();
        run(line, &["-n", NAMESPACE, "--kubeconfig", config]).await
    }

    async fn expect(&self, line: &str, code: i32) -> Said {
        let said = self.run(line).await;
        assert_eq!(said.code, code, "{line}: {said:?}");
        said
    }

    /// What a person's or a pipeline's `kubectl set image` writes.
    async fn image(&self, image: &str) {
        let body =
            json!({"spec": {"template": {"spec": {"containers": Shape::containers(image)}}}});
        let path = self.plot.path(&deployments(), WEB);
        Http::merge(path, body).send(&self.plot.ground.user).await.unwrap();
    }

    async fn deployment(&self) -> Value {
        Http::get(self.plot.path(&deployments(), WEB)).send(&self.plot.ground.user).await.unwrap()
    }

    /// A release of an image that waits at its first step.
    async fn release(&self, image: &str) -> Said {
        self.image(image).await;
        let said = self.expect("status web --watch", 2).await;
        assert!(said.out.contains("step 1: approval"), "{}", said.out);
        said
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_is_followed_approved_and_promoted() {
    let desk = Desk::new(0).await;
    let table = desk.expect("get", 0).await;
    let rows: Vec<Vec<&str>> = table.out.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "PHASE", "STEP", "WEIGHT", "READY", "VERDICT", "WAITING", "FOR"]);
    assert_eq!(rows[1], ["web", "Healthy", "-", "-", "4/4", "-", "-"]);
    let said = desk.expect("plan web", 0).await;
    assert!(said.out.starts_with("nothing to write"), "{}", said.out);

    // Where is my release, why does it not go on, what can I do.
    let said = desk.release("web:v2").await;
    assert_eq!(said.line("Rollout"), "Rollout    shop/web  (Deployment web, web:v2)");
    let waiting = said.line("Waiting");
    assert!(waiting.starts_with("Waiting    step 1: approval"), "{waiting}");
    assert!(said.line("Next").contains("kubectl sluice approve web -n shop"), "{}", said.out);
    assert!(said.line("Next").contains("kubectl sluice abort web -n shop"), "{}", said.out);
    assert_eq!(said.line("Ready"), "Ready      1/1 of 4 new pods");
    assert!(said.out.contains("  -> step 1  first        pods 25%"), "{}", said.out);
    let table = desk.expect("get -A", 0).await;
    let row: Vec<&str> = table.out.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..5], ["shop", "web", "Progressing", "1/3", "-"], "{}", table.out);
    assert!(table.out.contains("step 1: approval"), "{}", table.out);
    let said = desk.expect("plan web", 0).await;
    assert!(said.out.contains("wait: step 1: approval"), "{}", said.out);
    let plan = desk.expect("plan web -o json", 0).await;
    let plan: Value = serde_json::from_str(&plan.out).unwrap();
    assert!(plan["waitingFor"].as_str().unwrap().starts_with("step 1: approval"), "{plan}");

    // The answer to a watch right after a verb is the verb's, not the one of before.
    let said = desk.expect("approve web", 0).await;
    assert!(said.out.contains("step 1 is approved"), "{}", said.out);
    let said = desk.expect("status web --watch", 2).await;
    assert!(said.out.contains("step 2: approval"), "{}", said.out);
    desk.expect("promote web", 0).await;
    let said = desk.expect("status web --watch", 0).await;
    assert!(said.line("Last").contains("Promoted at "), "{}", said.out);
    let said = desk.expect("get web -o json", 0).await;
    let object: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(object["status"]["lastRelease"]["decision"], "Promoted");
    let all = desk.expect("get -o json", 0).await;
    assert_eq!(serde_json::from_str::<Vec<Value>>(&all.out).unwrap(), [object]);
    let yaml = desk.expect("status web -o yaml", 0).await;
    let status: Value = serde_saphyr::from_str(&yaml.out).unwrap();
    assert_eq!(status["phase"], "Healthy");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_is_aborted_tried_again_and_promoted_in_full() {
    let desk = Desk::new(0).await;
    desk.release("web:v2").await;
    let said = desk.expect("abort web", 0).await;
    assert!(said.out.contains("goes back to the stable version"), "{}", said.out);
    let said = desk.expect("status web --watch", 1).await;
    assert!(said.line("Last").contains("RolledBack at "), "{}", said.out);
    assert!(said.line("Last").contains("aborted by admin"), "{}", said.out);
    assert!(said.line("Phase").contains("Failed"), "{}", said.out);
    assert_eq!(image_of(&desk.deployment().await), "web:v1");
    assert_eq!(said.line("Next"), "", "nothing waits for a person: {}", said.out);
    let said = desk.expect("retry web", 1).await;
    assert!(said.complaint.contains("back at its stable version"), "{}", said.complaint);

    // The same image again is held, and says so.
    desk.image("web:v2").await;
    let said = desk.expect("status web --watch", 1).await;
    assert!(said.line("Waiting").contains("this template failed before"), "{}", said.out);
    assert_eq!(said.line("Next"), "Next       kubectl sluice retry web -n shop");
    desk.expect("retry web", 0).await;
    let said = desk.expect("status web --watch", 2).await;
    assert!(said.out.contains("step 1: approval"), "{}", said.out);
    let said = desk.expect("promote web --full", 0).await;
    assert!(said.out.contains("all remaining steps are left out"), "{}", said.out);
    desk.expect("status web --watch", 0).await;
    assert_eq!(image_of(&desk.deployment().await), "web:v2");

    // Back to the revision before, as a release like any other; then to one by its number.
    let said = desk.expect("undo web", 0).await;
    assert!(said.out.contains("released like any other"), "{}", said.out);
    let said = desk.expect("status web --watch", 2).await;
    assert!(said.line("Rollout").contains("web:v1"), "{}", said.out);
    desk.expect("promote web --full", 0).await;
    desk.expect("status web --watch", 0).await;
    let revision = |object: &Value| {
        let all = &object["metadata"]["annotations"];
        all["deployment.kubernetes.io/revision"].as_str().unwrap().parse::<i64>().unwrap()
    };
    let newest = revision(&desk.deployment().await);
    let said = desk.expect(&format!("undo web --to-revision {newest}"), 1).await;
    assert!(said.complaint.contains("already"), "{}", said.complaint);
    let said = desk.expect("undo web --to-revision 99", 1).await;
    assert!(said.complaint.contains(&format!("there are {newest}")), "{}", said.complaint);
    desk.expect(&format!("undo web --to-revision {}", newest - 1), 0).await;
    let said = desk.expect("status web --watch", 2).await;
    assert!(said.line("Rollout").contains("web:v2"), "{}", said.out);
    let said = desk.expect("undo web", 0).await;
    assert!(said.out.contains("the release goes back to it"), "{}", said.out);
    let said = desk.expect("status web --watch", 1).await;
    assert!(said.line("Last").contains("the stable template was put back"), "{}", said.out);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_undo_ends_a_release_that_is_set_aside_though_the_stable_template_is_there() {
    let desk = Desk::new(0).await;
    desk.release("web:v2").await;
    let path = desk.plot.path(&deployments(), WEB);
    let scale = |replicas: i32| {
        let body = json!({"spec": {"replicas": replicas}});
        Http::merge(path.clone(), body).send(&desk.plot.ground.user)
    };
    scale(0).await.unwrap();
    let said = desk.expect("status web --watch", 2).await;
    assert!(said.line("Waiting").contains("0 replicas"), "{}", said.out);
    // What is put back is noted before it is written.
    until(&desk.plot, "the stable template is put back", |objects| {
        objects.get("deployment", WEB).is_some_and(|stored| image_of(stored) == "web:v1")
    })
    .await;
    let said = desk.expect("undo web", 0).await;
    assert!(said.out.contains("goes back to the stable version"), "{}", said.out);
    let said = desk.expect("status web --watch", 1).await;
    assert!(said.line("Last").contains("aborted by admin"), "{}", said.out);
    scale(4).await.unwrap();
    desk.expect("status web --watch", 1).await;
    assert_eq!(image_of(&desk.deployment().await), "web:v1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_is_paused_skipped_and_sent_to_any_step() {
    let desk = Desk::new(0).await;
    desk.release("web:v2").await;
    let said = desk.expect("pause web", 0).await;
    assert!(said.out.contains("kubectl sluice resume web -n shop"), "{}", said.out);
    let said = desk.expect("status web --watch", 2).await;
    assert!(said.line("Waiting").contains("the Rollout is paused"), "{}", said.out);
    assert!(said.line("Next").contains("kubectl sluice resume web -n shop"), "{}", said.out);
    desk.expect("resume web", 0).await;
    let said = desk.expect("status web --watch", 2).await;
    assert!(said.out.contains("step 1: approval"), "{}", said.out);
    let said = desk.expect("resume web", 0).await;
    assert!(said.out.contains("was not paused"), "{}", said.out);

    let at = async |line: &str, step: &str| {
        desk.expect(line, 0).await;
        let said = desk.expect("status web --watch", 2).await;
        assert!(said.out.contains(&format!("{step}: approval")), "{line}: {}", said.out);
    };
    at("skip web", "step 2").await;
    at("jump web 1", "step 1").await;
    at("jump web 2", "step 2").await;
    at("restart web", "step 1").await;
    let said = desk.expect("jump web 9", 1).await;
    assert!(said.complaint.contains("they go from 1 to 3"), "{}", said.complaint);
    desk.expect("jump web 3", 0).await;
    desk.expect("status web --watch", 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_release_a_verb_says_so_and_changes_nothing() {
    let desk = Desk::new(0).await;
    let path = desk.plot.path(&rollouts(), WEB);
    let read = || Http::get(path.clone()).send(&desk.plot.ground.user);
    let unasked = |object: Value| {
        assert!(object["status"]["request"].is_null(), "{object}");
        object["metadata"]["generation"].clone()
    };
    let before = unasked(read().await.unwrap());
    for verb in ["approve", "promote", "abort", "retry", "skip", "restart"] {
        let said = desk.expect(&format!("{verb} web"), 1).await;
        let words = "Rollout web has no release under way: there is nothing to ";
        assert!(said.complaint.contains(words), "{}", said.complaint);
    }
    let said = desk.expect("jump web 2", 1).await;
    assert!(said.complaint.contains("no release under way"), "{}", said.complaint);
    assert_eq!(unasked(read().await.unwrap()), before);
    for line in ["status shop", "approve shop", "plan shop", "let-go shop", "undo shop"] {
        // 1 to 3 of status say how a release stands.
        let code = if line.starts_with("status") { 4 } else { 1 };
        let said = desk.expect(line, code).await;
        assert!(said.complaint.contains("Rollout shop not found"), "{}", said.complaint);
        assert!(said.complaint.contains("there are web"), "{}", said.complaint);
    }
    let config = desk.plot.ground.kubeconfig.to_str().unwrap();
    let said = run("get -n empty --kubeconfig", &[config]).await;
    assert_eq!(
        (said.code, said.out.trim()),
        (0, "no Rollouts in namespace empty; -A looks in all")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letting_go_leaves_the_workload_where_it_is_and_says_how_to_go_on() {
    let mut desk = Desk::new(0).await;
    desk.release("web:v2").await;
    desk.plot.controller = None;
    // Without a controller nothing that is asked for is done, and nobody is told that it was.
    desk.expect("approve web", 0).await;
    let said = desk.expect("status web", 3).await;
    assert!(said.line("Unread").contains("what was asked for"), "{}", said.out);
    let said = desk.expect("status web --watch --timeout 2s", 3).await;
    assert!(said.complaint.contains("still under way after 2s"), "{}", said.complaint);
    let said = desk.expect("let-go web", 0).await;
    assert!(said.out.contains("the workload is let go"), "{}", said.out);
    let deployment = desk.deployment().await;
    assert_eq!(deployment["spec"]["paused"], true, "{deployment}");
    assert_eq!(image_of(&deployment), "web:v2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_ends_when_its_rollout_is_deleted() {
    let desk = Desk::new(600).await;
    desk.image("web:v2").await;
    let mut watching = desk.command("status web --watch").spawn().unwrap();
    let mut out = tokio::io::BufReader::new(watching.stdout.take().unwrap());
    let mut line = String::new();
    let page = tokio::time::timeout(PATIENCE, out.read_line(&mut line));
    assert_ne!(page.await.expect("a page is shown").unwrap(), 0, "it goes on watching");
    let path = desk.plot.path(&rollouts(), WEB);
    Http::delete(path, json!({})).send(&desk.plot.ground.user).await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, watching.wait_with_output());
    let said = Said::of(ended.await.expect("it ends").unwrap());
    assert_eq!(said.code, 4, "{said:?}");
    assert!(said.complaint.contains("was deleted"), "{}", said.complaint);
}

#[test]
fn a_reader_that_has_read_enough_is_no_error_and_a_full_disk_is_one() {
    use std::process::Command;
    let mut child = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .arg("crds")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let said = Said::of(child.wait_with_output().unwrap());
    assert_eq!((said.code, said.complaint.as_str()), (0, ""));
    let Ok(full) = std::fs::File::options().write(true).open("/dev/full") else { return };
    let output = Command::new(env!("CARGO_BIN_EXE_sluice")).arg("crds").stdout(full).output();
    let said = Said::of(output.unwrap());
    assert_eq!(said.code, 1);
    assert!(said.complaint.contains("standard output cannot be written"), "{}", said.complaint);
}

#[tokio::test]
async fn the_definitions_and_the_completion_are_printed() {
    let said = run("crds", &[]).await;
    assert_eq!(said.code, 0);
    let printed: Vec<Value> = serde_saphyr::from_multiple(&said.out).unwrap();
    let mut names: Vec<&str> =
        printed.iter().filter_map(|crd| crd["metadata"]["name"].as_str()).collect();
    names.sort_unstable();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
        .filter_map(|text| serde_saphyr::from_str::<Value>(&text).ok())
        .filter_map(|crd| crd["metadata"]["name"].as_str().map(str::to_owned))
        .collect();
    files.sort_unstable();
    assert_eq!(names, files);
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = run("completion", &[shell]).await;
        assert_eq!(said.code, 0, "{shell}");
        for verb in ["approve", "let-go", "simulate"] {
            assert!(said.out.contains(verb), "{verb} in the completion of {shell}");
        }
    }
}

#[tokio::test]
async fn one_seed_of_a_simulation_gives_one_transcript_and_its_json_says_the_same() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (manifests, scenario) =
        (path("background.yaml"), path("background_errors_are_rolled_back.scenario"));
    let simulate = async |seed: &str, output: &str| {
        let files = ["-f", &manifests, "--scenario", &scenario, "--seed", seed, "-o", output];
        let said = run("simulate", &files).await;
        assert_eq!(said.code, 0, "{said:?}");
        said.out
    };
    let text = simulate("7", "text").await;
    assert_eq!(simulate("7", "text").await, text);
    let report: Value = serde_json::from_str(&simulate("7", "json").await).unwrap();
    assert_eq!(report["seed"], 7);
    let lines = report["timeline"].as_array().unwrap();
    for line in lines {
        let seconds = line["atMs"].as_f64().unwrap() / 1000.0;
        let words = format!("{seconds:.3}s");
        let has = |l: &str| l.contains(&words) && l.ends_with(line["text"].as_str().unwrap());
        assert!(text.lines().any(has), "{line} in {text}");
    }
    assert!(lines.len() > 5 && report["requests"]["total"].as_u64().unwrap() > 0, "{report}");
    assert_eq!((&report["unmet"], &report["violations"]), (&json!([]), &json!([])));
    let yaml: Value = serde_saphyr::from_str(&simulate("7", "yaml").await).unwrap();
    assert_eq!(yaml["timeline"], report["timeline"]);
    assert_ne!(simulate("8", "text").await, text, "another seed, other requests");
    let missing = ["-f", &manifests, "--scenario", "none.scenario"];
    let said = run("simulate", &missing).await;
    assert_eq!(said.code, 1);
    assert!(said.complaint.contains("none.scenario"), "{}", said.complaint);
}

#[tokio::test]
async fn what_a_simulated_cluster_refuses_is_told_in_its_own_words() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (manifests, scenario) =
        (path("background.yaml"), path("background_errors_are_rolled_back.scenario"));
    let twice = ["-f", &manifests, "-f", &manifests, "--scenario", &scenario];
    let said = run("simulate", &twice).await;
    assert_eq!(said.code, 1);
    let sentence =
        format!("error: {manifests}: Deployment web: deployments.apps \"web\" already exists");
    assert!(said.complaint.contains(&sentence), "{}", said.complaint);
    assert!(!said.complaint.contains("ApiStatus"), "{}", said.complaint);
}

#[tokio::test]
async fn the_help_of_each_verb_says_what_its_namespace_is() {
    for (verb, words) in [
        ("install", "Where the controller runs. Default: sluice-system"),
        ("uninstall", "Where the controller runs. Default: sluice-system"),
        ("controller", "Look at this namespace only. Default: at all"),
        ("get", "The namespace. Default: that of the kubeconfig's context"),
    ] {
        let said = run(verb, &["--help"]).await;
        let whole = said.out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(whole.contains(words), "{verb}: {whole}");
    }
}

#[tokio::test]
async fn what_could_not_be_asked_is_another_exit_code_than_every_answer() {
    for line in ["status", "analysis --bogus", "status web --kubeconfig /none"] {
        let said = run(line, &[]).await;
        assert_eq!(said.code, 4, "{line}: {}", said.complaint);
    }
    let said = run("power --base 1% --rps", &["-1"]).await;
    assert!(said.complaint.contains("--rps -1: must be above 0"), "{}", said.complaint);
}
