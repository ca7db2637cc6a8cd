//! What a person at a terminal meets: real kubectl on a gated Deployment.

use std::process::Command;

use serde_json::{Value, json};

use super::harness::{self, Who};
use super::stage::{NEVER_AVAILABLE, NO_DEADLINE, Stage};

/// Exit code zero or not, and everything it said.
struct Said(bool, String);

async fn kubectl(stage: &Stage, line: &str) -> Said {
    let config = harness::shared().expect("a control plane").kubeconfig(Who::User);
    let mut command = Command::new("kubectl");
    command.arg("--kubeconfig").arg(config).arg("--namespace").arg(&stage.namespace);
    command.args(line.split(' '));
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .expect("kubectl ends")
        .expect("kubectl runs");
    let text = [output.stdout, output.stderr].concat();
    Said(output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

pub(super) fn has_kubectl() -> bool {
    let has = Command::new("kubectl").args(["version", "--client"]).output().is_ok();
    if !has {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "kubectl is missing");
        eprintln!("SKIP: kubectl is missing");
    }
    has
}

async fn gated(namespace: &str) -> Option<Stage> {
    if !has_kubectl() {
        return None;
    }
    let stage = Stage::on_the_real_one(namespace).await?;
    stage.deploy(2, json!({})).await;
    stage.gated(json!({"rollout": "web"})).await;
    Some(stage)
}

async fn is_paused(stage: &Stage) -> bool {
    stage.web().await.spec.and_then(|spec| spec.paused) == Some(true)
}

#[tokio::test]
async fn set_image_and_restart_of_an_idle_workload_are_held_as_releases() {
    for line in ["set image deployment/web web=web:v2", "rollout restart deployment/web"] {
        let name = line.split(' ').nth(1).unwrap_or_default();
        let Some(stage) = gated(&format!("kubectl-{name}")).await else { return };
        let Said(ok, text) = kubectl(&stage, line).await;
        assert!(ok, "{text}");
        assert!(is_paused(&stage).await, "{line}");
    }
}

#[tokio::test]
async fn pause_and_resume_of_an_idle_workload_do_as_they_say() {
    let Some(stage) = gated("kubectl-pause").await else { return };
    let Said(ok, text) = kubectl(&stage, "rollout pause deployment/web").await;
    assert!(ok && is_paused(&stage).await, "{text}");
    stage.settle().await;
    let Said(ok, text) = kubectl(&stage, "rollout resume deployment/web").await;
    assert!(ok && !is_paused(&stage).await, "{text}");
}

#[tokio::test]
async fn undo_and_restart_refuse_a_held_workload_and_resume_does_nothing() {
    let Some(stage) = gated("kubectl-held").await else { return };
    let Said(ok, text) = kubectl(&stage, "set image deployment/web web=web:v2").await;
    assert!(ok, "{text}");
    let Said(ok, text) = kubectl(&stage, "rollout undo deployment/web").await;
    assert!(!ok && text.contains("no rollout history found"), "a first release: {text}");
    // With a revision to go back to.
    stage.spec(Who::Sluice, json!({"paused": false})).await;
    stage.settle().await;
    let Said(ok, text) = kubectl(&stage, "set image deployment/web web=web:v3").await;
    assert!(ok, "{text}");
    let Said(ok, text) = kubectl(&stage, "rollout undo deployment/web").await;
    assert!(!ok && text.contains("resume it first"), "{text}");
    let Said(ok, text) = kubectl(&stage, "rollout restart deployment/web").await;
    assert!(!ok && text.contains("can't restart paused deployment"), "{text}");
    let Said(ok, text) = kubectl(&stage, "rollout resume deployment/web").await;
    println!("resume of a held workload: {ok} {text}");
    assert!(is_paused(&stage).await);
    let Said(ok, text) = kubectl(&stage, "scale deployment/web --replicas=3").await;
    assert!(ok, "{text}");
    stage.settle().await;
    assert_eq!(stage.sizes().await, [("v2".to_owned(), 3)].into());
}

#[tokio::test]
async fn undo_of_a_moving_release_is_a_template_that_waits() {
    let Some(stage) = gated("kubectl-undo").await else { return };
    let Said(ok, text) = kubectl(&stage, "set image deployment/web web=web:v2").await;
    assert!(ok, "{text}");
    stage.gated(json!({"release": "r1", "minReadySeconds": 0})).await;
    let knob = json!({"paused": false, "minReadySeconds": NEVER_AVAILABLE,
        "progressDeadlineSeconds": NO_DEADLINE,
        "strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}});
    stage.spec(Who::Sluice, knob).await;
    stage.settle().await;
    let Said(ok, text) = kubectl(&stage, "rollout undo deployment/web").await;
    assert!(ok, "{text}");
    assert!(is_paused(&stage).await);
    stage.settle().await;
    let rest = stage.rest().await;
    assert_eq!(rest.sizes, [("v1".to_owned(), 1), ("v2".to_owned(), 1)].into());
    assert_eq!(rest.available["v1"], 1, "the stable pods stay available");
    let web = stage.web().await;
    let image: Value = serde_json::to_value(&web).expect("JSON")["spec"]["template"]["spec"]
        ["containers"][0]["image"]
        .clone();
    assert_eq!(image, json!("web:v1"));
}
