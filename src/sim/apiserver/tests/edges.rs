//! The service: watches, forms, faults, and kube-rs as a client.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::Request;
use http_body_util::{BodyExt, BodyStream, Full};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::ConfigMap};
use kube::{
    Api,
    api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
};
use tower::Service;

use super::{
    super::{ApiStatus, Body, Fault},
    *,
};

async fn send(
    server: &ApiServer,
    method: &str,
    uri: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> http::Response<Body> {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
    server.service("admin").call(request).await.unwrap()
}

async fn json_of(answer: http::Response<Body>) -> Value {
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&bytes).unwrap()
}

async fn get(server: &ApiServer, uri: &str, accept: &str) -> Value {
    json_of(send(server, "GET", uri, &[("accept", accept)], "").await).await
}

/// The events of a watch that is cut when it has shown `count` of them: nothing comes after them.
async fn watched(server: &ApiServer, uri: &str, count: usize) -> Vec<Value> {
    let mut frames = BodyStream::new(send(server, "GET", uri, &[], "").await.into_body());
    let mut events = Vec::new();
    while let Some(frame) = frames.next().await {
        let line = frame.unwrap().into_data().unwrap();
        events.push(serde_json::from_slice(&line).unwrap());
        if events.len() == count {
            server.faults().cut_watches();
        }
    }
    events
}

fn kinds(events: &[Value]) -> Vec<String> {
    let shown = |event: &Value| {
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
        format!("{} {name}", event["type"].as_str().unwrap()).trim_end().to_owned()
    };
    events.iter().map(shown).collect()
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn a_watch_shows_what_happened_after_its_version() {
    let server = server();
    server.create("admin", config("before")).unwrap();
    let from = server.resource_version();
    server.create("admin", config("a")).unwrap();
    server.patch_merge("admin", &CONFIG_MAPS, "default", "a", json!({"data": {"k": "2"}})).unwrap();
    server.delete("admin", &CONFIG_MAPS, "default", "a").unwrap();
    let uri = format!("{MAPS}?watch=true&resourceVersion={from}");
    let events = watched(&server, &uri, 3).await;
    assert_eq!(kinds(&events), ["ADDED a", "MODIFIED a", "DELETED a"]);
    let versions: Vec<u64> = events
        .iter()
        .map(|e| e["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap())
        .collect();
    assert_eq!(versions, [from + 1, from + 2, from + 3]);
}

#[tokio::test]
async fn an_object_that_leaves_the_selector_is_deleted_for_the_watch() {
    let server = server();
    let from = server.resource_version();
    let mut object = config("a");
    object["metadata"]["labels"] = json!({"tier": "front"});
    server.create("admin", object).unwrap();
    let relabel = |tier: &str| {
        let body = json!({"metadata": {"labels": {"tier": tier}}});
        server.patch_merge("admin", &CONFIG_MAPS, "default", "a", body).unwrap();
    };
    relabel("back");
    relabel("front");
    let uri = format!("{MAPS}?watch=1&labelSelector=tier%3Dfront&resourceVersion={from}");
    let events = watched(&server, &uri, 3).await;
    assert_eq!(kinds(&events), ["ADDED a", "DELETED a", "ADDED a"]);
}

#[tokio::test]
async fn a_watch_list_ends_its_beginning_with_a_bookmark() {
    let server = server();
    server.create("admin", config("a")).unwrap();
    let uri = format!(
        "{MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan\
         &allowWatchBookmarks=true"
    );
    let events = watched(&server, &uri, 2).await;
    assert_eq!(kinds(&events), ["ADDED a", "BOOKMARK"]);
    let note = &events[1]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"];
    assert_eq!(note, "true");
    let without = format!("{MAPS}?watch=true&sendInitialEvents=true");
    let refused = send(&server, "GET", &without, &[], "").await;
    assert_eq!(refused.status(), 422);
}

#[tokio::test]
async fn a_watch_from_a_forgotten_version_is_gone() {
    let server = server();
    let from = server.resource_version();
    server.create("admin", config("a")).unwrap();
    server.compact();
    let uri = format!("{MAPS}?watch=true&resourceVersion={from}");
    let events = watched(&server, &uri, 1).await;
    assert_eq!(events[0]["type"], "ERROR");
    assert_eq!(events[0]["object"]["code"], 410);
}

#[tokio::test]
async fn answers_come_in_the_form_that_is_accepted() {
    let server = server();
    server.create("admin", config("a")).unwrap();
    let table = get(&server, MAPS, "application/json;as=Table;v=v1;g=meta.k8s.io").await;
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["rows"][0]["cells"], json!(["a", 1, "0s"]));
    let accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let partial = get(&server, MAPS, accept).await;
    assert_eq!(partial["items"][0]["kind"], "PartialObjectMetadata");
    assert!(partial["items"][0].get("data").is_none());
    let only = [("accept", "application/vnd.kubernetes.protobuf")];
    assert_eq!(send(&server, "GET", MAPS, &only, "").await.status(), 406);
    let sent = [("content-type", "application/vnd.kubernetes.protobuf")];
    assert_eq!(send(&server, "POST", MAPS, &sent, "k8s").await.status(), 415);
    assert_eq!(send(&server, "GET", "/apis/nope/v1/things", &[], "").await.status(), 404);
}

#[tokio::test]
async fn discovery_and_schemas_follow_the_definitions() {
    let server = server();
    let version = |version: &str| {
        json!({
            "name": version, "served": true, "storage": version == "v1",
            "schema": {"openAPIV3Schema": {"type": "object", "properties":
                {"spec": {"type": "object", "description": version}}}},
        })
    };
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.io"},
        "spec": {
            "group": "example.io", "scope": "Cluster",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [version("v1beta1"), version("v1"), version("v2alpha1")],
        },
    });
    let index = |index: &Value| index["paths"]["apis/apps/v1"].clone();
    let before = index(&get(&server, "/openapi/v3", "*/*").await);
    server.create("admin", crd).unwrap();
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let groups = get(&server, "/apis", accept).await;
    let groups = groups["items"].as_array().unwrap();
    let ours = groups.iter().find(|group| group["metadata"]["name"] == "example.io").unwrap();
    let versions: Vec<&Value> =
        ours["versions"].as_array().unwrap().iter().map(|v| &v["version"]).collect();
    assert_eq!(versions, ["v1", "v1beta1", "v2alpha1"]);
    assert_eq!(ours["versions"][0]["resources"][0]["scope"], "Cluster");
    let document = get(&server, "/openapi/v3/apis/example.io/v1", "*/*").await;
    let schema = &document["components"]["schemas"]["io.example.v1.Thing"];
    assert_eq!(schema["properties"]["spec"]["description"], "v1");
    assert_eq!(index(&get(&server, "/openapi/v3", "*/*").await), before);
}

#[tokio::test]
async fn faults_strike_before_after_and_in_between() {
    let server = server();
    let body = config("a").to_string();
    let create = || send(&server, "POST", MAPS, &[], &body);
    let down = ApiStatus::new(503, "ServiceUnavailable", "try again");
    let refusal = down.clone();
    server.faults().set(Box::new(move |request| match request.writes() {
        true => Fault::Refuse(refusal.clone()),
        false => Fault::Pass,
    }));
    assert_eq!(create().await.status(), 503);
    assert!(server.get(&CONFIG_MAPS, "default", "a").is_none());
    server.faults().set(Box::new(move |_| Fault::LoseAnswer(down.clone())));
    assert_eq!(create().await.status(), 503);
    assert!(server.get(&CONFIG_MAPS, "default", "a").is_some());
    server.faults().set(Box::new(|_| {
        Fault::Delay(Duration::from_millis(1), Box::new(Fault::Disconnect { done: false }))
    }));
    let request = Request::builder().uri(MAPS).body(Full::new(Bytes::new())).unwrap();
    assert!(server.service("admin").call(request).await.is_err());
    server.faults().clear();
    assert_eq!(create().await.status(), 409);
}

#[tokio::test]
async fn watches_end_lag_and_miss_events() {
    let server = server();
    let from = server.resource_version();
    for name in ["a", "b", "c"] {
        server.create("admin", config(name)).unwrap();
    }
    let uri = format!("{MAPS}?watch=true&resourceVersion={from}");
    server.faults().set(Box::new(|_| Fault::EndWatch { after: 2 }));
    assert_eq!(kinds(&watched(&server, &uri, 9).await), ["ADDED a", "ADDED b"]);
    server.faults().set(Box::new(|_| Fault::MissEvents { nth: 2 }));
    assert_eq!(kinds(&watched(&server, &uri, 2).await), ["ADDED a", "ADDED c"]);
    server.faults().set(Box::new(|_| Fault::LagWatch(Duration::from_millis(1))));
    assert_eq!(kinds(&watched(&server, &uri, 3).await), ["ADDED a", "ADDED b", "ADDED c"]);
    server.faults().clear();
    let mut frames = BodyStream::new(send(&server, "GET", &uri, &[], "").await.into_body());
    for _ in 0..3 {
        frames.next().await.unwrap().unwrap();
    }
    server.faults().cut_watches();
    assert!(frames.next().await.is_none());
}

#[tokio::test]
async fn the_log_counts_requests_once_it_is_started() {
    let server = server();
    get(&server, MAPS, "*/*").await;
    server.log().start();
    send(&server, "POST", &format!("{MAPS}?dryRun=All"), &[], &config("a").to_string()).await;
    let entries = server.log().entries();
    assert_eq!(entries.len(), 1);
    let entry = &entries[0];
    assert_eq!((entry.method.as_str(), entry.path.as_str(), entry.status), ("POST", MAPS, 201));
    assert_eq!(entry.body, config("a").to_string().len());
}

#[tokio::test]
async fn unknown_fields_are_dropped_with_a_warning_or_refused() {
    let server = server();
    let uri = "/apis/apps/v1/namespaces/default/deployments";
    let mut object = deployment("web", 3);
    object["spec"]["foo"] = json!(1);
    object["spec"]["template"]["spec"]["containers"][0]["bar"] = json!(1);
    let strict = format!("{uri}?fieldValidation=Strict");
    let refused = send(&server, "POST", &strict, &[], &object.to_string()).await;
    assert_eq!(refused.status(), 400);
    assert_eq!(
        json_of(refused).await["message"],
        "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: \
         unknown field \"spec.foo\", unknown field \"spec.template.spec.containers[0].bar\""
    );
    let warned = send(&server, "POST", uri, &[], &object.to_string()).await;
    assert_eq!(warned.headers()["warning"], "299 - \"unknown field \\\"spec.foo\\\"\"");
    assert!(json_of(warned).await["spec"].get("foo").is_none());
}

#[tokio::test]
async fn kube_rs_cannot_tell_the_difference() {
    let server = server();
    let maps: Api<ConfigMap> = Api::default_namespaced(server.client("admin"));
    let map = ConfigMap {
        metadata: ObjectMeta { name: Some("a".into()), ..ObjectMeta::default() },
        ..ConfigMap::default()
    };
    let made = maps.create(&PostParams::default(), &map).await.unwrap();
    let again = maps.create(&PostParams::default(), &map).await.unwrap_err();
    assert!(matches!(again, kube::Error::Api(status) if status.is_already_exists()));
    let version = made.metadata.resource_version.clone().unwrap();
    let params = PatchParams::apply("tester").force();
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "v"}});
    maps.patch("a", &params, &Patch::Apply(&body)).await.unwrap();
    let listed = maps.list(&ListParams::default()).await.unwrap();
    assert_eq!(listed.items.len(), 1);
    let stale = maps.replace("a", &PostParams::default(), &made).await.unwrap_err();
    assert!(matches!(stale, kube::Error::Api(status) if status.is_conflict()));
    let events = maps.watch(&WatchParams::default(), &version).await.unwrap();
    let events: Vec<_> = events.take(1).collect().await;
    assert!(matches!(events.as_slice(), [Ok(WatchEvent::Modified(_))]), "{events:?}");
    let deployments: Api<Deployment> = Api::all(server.client("admin"));
    assert_eq!(deployments.list(&ListParams::default()).await.unwrap().items.len(), 0);
    let mut seen = std::pin::pin!(kube::runtime::watcher(
        maps,
        kube::runtime::watcher::Config::default().streaming_lists(),
    ));
    use kube::runtime::watcher::Event;
    assert!(matches!(seen.next().await, Some(Ok(Event::Init))));
    assert!(matches!(seen.next().await, Some(Ok(Event::InitApply(_)))));
    assert!(matches!(seen.next().await, Some(Ok(Event::InitDone))));
}
