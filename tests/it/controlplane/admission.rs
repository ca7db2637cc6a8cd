//! What `kubectl` prints when an object with a mistake is applied: the same on both clusters, in the
//! words of lint.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sluice::sim::apiserver::{Tokens, kubeconfig};
use tokio::net::TcpListener;

use super::harness::{self, Who};
use crate::admission::{cases, sentences, server, shipped};

/// What kubectl complains of when it creates an object: its lines, sorted.
async fn complaints(config: &std::path::Path, object: &Value) -> Vec<String> {
    let (config, text) = (config.to_owned(), object.to_string());
    let said = tokio::task::spawn_blocking(move || {
        let mut child = Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(config)
            .args(["create", "--dry-run=server", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl runs");
        std::io::Write::write_all(&mut child.stdin.take().expect("piped"), text.as_bytes())
            .expect("kubectl reads");
        child.wait_with_output().expect("kubectl ends").stderr
    });
    let said = String::from_utf8(said.await.expect("kubectl ends")).expect("text");
    let mut lines: Vec<String> = said.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn every_mistake_that_a_policy_sees_is_printed_alike_on_both_clusters() {
    if !super::kubectl::has_kubectl() {
        return;
    }
    let Some(plane) = harness::shared() else { return };
    let real = plane.kubeconfig(Who::User);
    let folder = tempfile::TempDir::new().expect("a folder");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let tokens = Tokens::from([("secret".to_owned(), "user".to_owned())]);
    tokio::spawn(server().serve(listener, tokens, std::future::pending()));
    let ours = folder.path().join("config");
    std::fs::write(&ours, kubeconfig(address, "secret")).expect("a kubeconfig");
    let cases = cases();
    // A new policy takes a moment to be in force, each of them its own.
    let began = Instant::now();
    for case in [cases.first(), cases.get(25), cases.last()].into_iter().flatten() {
        while complaints(&real, &case.object).await.is_empty() {
            assert!(began.elapsed() < Duration::from_secs(60), "{}", case.object["spec"]);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    for case in cases {
        let on_real = complaints(&real, &case.object).await;
        assert_eq!(complaints(&ours, &case.object).await, on_real, "{}", case.object["spec"]);
        let mut said = sentences(&on_real);
        said.sort();
        let expected = if case.errors.is_empty() { case.warnings } else { case.errors };
        let is_warned = |said: &String| expected.contains(said) || on_real.len() > 1;
        assert!(!said.is_empty() && said.iter().all(is_warned), "{said:#?} {expected:#?}");
    }
}

#[tokio::test]
async fn the_api_server_finds_no_fault_with_the_types_of_our_policies() {
    let Some(plane) = harness::shared() else { return };
    let client = plane.client(Who::Admin);
    let policies = shipped("lint");
    let ours = policies.iter().filter(|object| object["kind"] == "ValidatingAdmissionPolicy");
    let began = Instant::now();
    for policy in ours {
        let name = policy["metadata"]["name"].as_str().expect("a name");
        let path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
        loop {
            let request = http::Request::get(format!("{path}/{name}")).body(Vec::new());
            let found: Value = client.request(request.expect("a request")).await.expect("served");
            let checked = found.pointer("/status/typeChecking");
            if checked.is_some()
                && found["status"]["observedGeneration"] == found["metadata"]["generation"]
            {
                let wrong = found.pointer("/status/typeChecking/expressionWarnings");
                assert!(wrong.is_none(), "{name}: {wrong:#?}");
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{name} is not checked: {found}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}
