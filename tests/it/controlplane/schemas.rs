//! Our custom resource definitions on the real API server: accepted without a warning, and refusing
//! each mistake in the words that `sluice lint` says.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use sluice::api::crds;

use super::harness::{self, ControlPlane, Who};
use crate::refusals::{bad, good, mistakes};

/// Sends `body` and gives the status, the warnings and the answer.
async fn post(plane: &ControlPlane, path: &str, body: &Value) -> (u16, Vec<String>, Value) {
    let request = http::Request::post(path)
        .header("content-type", "application/json")
        .body(body.to_string().into_bytes())
        .unwrap();
    let response = plane
        .client(Who::Admin)
        .send(request.map(kube::client::Body::from))
        .await
        .expect("the server answers");
    let warnings = response.headers().get_all("warning").iter();
    let warnings = warnings.map(|w| String::from_utf8_lossy(w.as_bytes()).into_owned()).collect();
    let status = response.status().as_u16();
    let bytes = response.into_body().collect_bytes().await.expect("a body");
    (status, warnings, serde_json::from_slice(&bytes).unwrap())
}

/// Installs ours where the harness has not, and waits until they are served.
async fn install(plane: &ControlPlane) {
    let api: Api<CustomResourceDefinition> = Api::all(plane.client(Who::Admin));
    for crd in crds::all() {
        let name = crd.metadata.name.clone().unwrap();
        match api.create(&PostParams::default(), &crd).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => panic!("{name}: {error}"),
        }
        let established = kube::runtime::conditions::is_crd_established();
        kube::runtime::wait::await_condition(api.clone(), &name, established).await.unwrap();
    }
}

#[tokio::test]
async fn our_definitions_are_accepted_without_a_warning() {
    let Some(plane) = harness::shared() else { return };
    for crd in crds::all() {
        let mut body = serde_json::to_value(&crd).unwrap();
        // Under another group, so that what the harness has installed is in nobody's way.
        let plural = crd.spec.names.plural.clone();
        body["spec"]["group"] = json!("tried.sluice.dev");
        body["metadata"]["name"] = json!(format!("{plural}.tried.sluice.dev"));
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions?dryRun=All";
        let (status, warnings, answer) = post(plane, path, &body).await;
        assert_eq!((status, warnings.len()), (201, 0), "{plural}: {warnings:?} {answer}");
    }
}

#[tokio::test]
async fn every_mistake_is_refused_in_the_words_of_lint() {
    let Some(plane) = harness::shared() else { return };
    install(plane).await;
    let path = |kind: &str| {
        let plural = format!("{}s", kind.to_lowercase());
        let options = "dryRun=All&fieldValidation=Strict";
        format!("/apis/sluice.dev/v1beta1/namespaces/default/{plural}?{options}")
    };
    for kind in ["Rollout", "AnalysisTemplate", "AnalysisRun", "MetricProvider"] {
        let (status, warnings, answer) = post(plane, &path(kind), &good(kind)).await;
        assert_eq!((status, warnings.len()), (201, 0), "{kind}: {warnings:?} {answer}");
    }
    for mistake in mistakes() {
        let (status, _, answer) = post(plane, &path(mistake.kind), &bad(&mistake)).await;
        let said = answer["message"].as_str().unwrap_or_default();
        assert!((400..500).contains(&status), "{}: {status} {said}", mistake.words);
        assert!(
            said.contains(mistake.words) && said.contains(mistake.path),
            "{}: {:?}: not in {said}",
            mistake.path,
            mistake.words,
        );
    }
}

#[tokio::test]
async fn the_workload_of_a_release_under_way_cannot_change() {
    let Some(plane) = harness::shared() else { return };
    install(plane).await;
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("sluice.dev", "v1beta1", "Rollout"));
    let api: Api<DynamicObject> = Api::namespaced_with(plane.client(Who::Admin), "default", &kind);
    let mut object = good("Rollout");
    object["metadata"]["name"] = json!("held");
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.expect("a good Rollout");
    let release = |of: Value| Patch::Merge(json!({"status": {"phase": "Failed", "release": of}}));
    let other = Patch::Merge(json!({"spec": {"workloadRef": {"name": "other"}}}));
    let params = PatchParams::default();
    let under_way = json!({"id": "r1", "templateHash": "t", "stable": "s", "stage": "Isolated",
        "step": 0, "state": "StepPaused", "originals": {}, "attempt": 1});
    api.patch_status("held", &params, &release(under_way)).await.expect("a status");
    let refused = api.patch("held", &params, &other).await.expect_err("it is held").to_string();
    assert!(refused.contains("workloadRef cannot change while a release runs"), "{refused}");
    api.patch_status("held", &params, &release(Value::Null)).await.expect("a status");
    api.patch("held", &params, &other).await.expect("nothing is under way");
}
