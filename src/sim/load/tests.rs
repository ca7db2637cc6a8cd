use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::clock::{Clock, SimClock, SystemClock};
use crate::sim::apiserver::{ApiServer, ResourceKey};
use crate::sim::controllers::Controllers;
use crate::sim::gateway::{Controller, Gateway, definitions};
use crate::sim::kubelet::{self, Nodes, settle};
use crate::sim::pods::{Behaviours, PodServers};
use crate::sim::promql::{Engine, Tsdb, TsdbSource, Value as Answer};

const ROUTES: ResourceKey = ResourceKey::of("gateway.networking.k8s.io", "v1", "httproutes");

/// A cluster without controllers: the tests write what those would.
fn cluster(weights: (u32, u32)) -> ApiServer {
    cluster_at(Arc::new(SimClock::at("2026-01-01T00:00:00Z".parse().unwrap())), weights)
}

fn cluster_at(clock: Arc<dyn Clock>, weights: (u32, u32)) -> ApiServer {
    let server = ApiServer::new(clock);
    let gateway = "gateway.networking.k8s.io/v1";
    let backend = |name, weight| json!({"name": name, "port": 80, "weight": weight});
    let pattern = "(.*;\\s*)?canary=yes(;.*)?";
    let cookie = json!({"name": "cookie", "type": "RegularExpression", "value": pattern});
    let listener = json!({"name": "http", "port": 80, "protocol": "HTTP"});
    let rules = json!([
        {"backendRefs": [backend("web", weights.0), backend("web-canary", weights.1)]},
        {"matches": [{"headers": [cookie]}], "backendRefs": [backend("web-canary", 1)]},
    ]);
    let mut objects = definitions();
    objects.extend([
        json!({
            "apiVersion": gateway, "kind": "GatewayClass", "metadata": {"name": "sluice"},
            "spec": {"controllerName": "sluice.dev/gateway"},
        }),
        json!({
            "apiVersion": gateway, "kind": "Gateway",
            "metadata": {"name": "edge", "namespace": "default"},
            "spec": {"gatewayClassName": "sluice", "listeners": [listener]},
        }),
        json!({
            "apiVersion": gateway, "kind": "HTTPRoute",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {
                "parentRefs": [{"name": "edge"}], "hostnames": ["shop.test"], "rules": rules,
            },
        }),
    ]);
    for name in ["web", "web-canary"] {
        objects.push(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
        }));
    }
    for object in objects {
        server.create("test", object).unwrap();
    }
    server
}

/// A pod that is ready at the address that `address` gives it.
fn pod(server: &ApiServer, name: &str, tag: &str, address: impl Fn(&Value) -> String) -> Value {
    let labels = json!({"app": "web", "pod-template-hash": tag});
    let container = json!({
        "name": "web", "image": format!("web:{tag}"), "ports": [{"containerPort": 8080}],
    });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "spec": {"containers": [container]},
    });
    let pod = server.create("test", pod).unwrap();
    let status = json!({"status": {"phase": "Running", "podIP": address(&pod),
        "conditions": [{"type": "Ready", "status": "True"}]}});
    server.patch_status("test", &ResourceKey::PODS, "default", name, status).unwrap()
}

fn slice(server: &ApiServer, service: &str, pods: &[&Value]) {
    let endpoints: Vec<Value> = pods
        .iter()
        .map(|pod| {
            json!({"addresses": [pod["status"]["podIP"]], "conditions": {"ready": true},
                   "targetRef": {"kind": "Pod", "name": pod["metadata"]["name"]}})
        })
        .collect();
    let labels = json!({"kubernetes.io/service-name": service});
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": service, "namespace": "default", "labels": labels},
        "endpoints": endpoints, "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    });
    server.create("test", slice).unwrap();
}

fn set_weights(server: &ApiServer, stable: u32, canary: u32) {
    let route = server.get(&ROUTES, "default", "web").unwrap();
    let mut route = Value::clone(&route);
    route["spec"]["rules"][0]["backendRefs"][0]["weight"] = json!(stable);
    route["spec"]["rules"][0]["backendRefs"][1]["weight"] = json!(canary);
    server.update("test", route).unwrap();
}

fn visitors() -> Vec<Visitor> {
    vec![Visitor::plain("shop.test")]
}

fn insider() -> Visitor {
    let headers = vec![("Cookie".to_owned(), "a=1; canary=yes".to_owned())];
    Visitor { headers, ..Visitor::plain("shop.test") }
}

fn answered(outcomes: &Outcomes, version: &str) -> u64 {
    outcomes.answered.get(version).copied().unwrap_or_default()
}

/// A data plane with real sockets on top of a cluster.
struct Sockets {
    server: ApiServer,
    servers: Arc<PodServers>,
    gateway: Arc<Gateway>,
    address: SocketAddr,
    stop: CancellationToken,
}

impl Drop for Sockets {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Sockets {
    async fn open(server: ApiServer) -> Self {
        let stop = CancellationToken::new();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let gateway = Gateway::new(11);
        tokio::spawn(gateway.clone().control(server.clone(), address, stop.clone()));
        tokio::spawn(gateway.clone().serve(listener, stop.clone()));
        let runtime = tokio::runtime::Handle::current();
        let servers = PodServers::new(Behaviours::default(), 5, runtime);
        Self { server, servers, gateway, address, stop }
    }

    fn pod(&self, name: &str, tag: &str) -> Value {
        pod(&self.server, name, tag, |pod| self.servers.open(pod).unwrap().to_string())
    }

    /// The outcome of `count` requests, eight at a time.
    async fn send(&self, visitors: Vec<Visitor>, count: usize) -> Outcomes {
        let load = Load::new(visitors, 3);
        for _ in 0..count / 8 {
            let eight = (0..8).map(|_| load.clone().send(self.address));
            futures::future::join_all(eight).await;
        }
        load.outcomes()
    }

    /// Waits until the gateway has followed every change: its own writes settle too.
    async fn settle(&self) {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }
}

/// What is open of pods that are gone is closed beside pods that come, on another thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_opens_while_the_pods_are_listed_stays_open() {
    let cluster = Sockets::open(cluster((100, 0))).await;
    // Reading a long list takes time.
    for i in 0..200 {
        pod(&cluster.server, &format!("old-{i}"), "v1", |_| "10.0.0.1".to_owned());
    }
    tokio::spawn(cluster.servers.clone().control(cluster.server.clone(), cluster.stop.clone()));
    let mut opened = Vec::new();
    for i in 0..100 {
        opened.push(cluster.pod(&format!("new-{i}"), "v1"));
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    for pod in opened {
        let address = pod["status"]["podIP"].as_str().unwrap();
        let connected = tokio::net::TcpStream::connect((address, 8080)).await;
        assert!(connected.is_ok(), "{} at {address}: {connected:?}", pod["metadata"]["name"]);
    }
}

#[tokio::test]
async fn real_requests_are_split_by_weight_and_a_change_shows_up() {
    let cluster = Sockets::open(cluster((90, 10))).await;
    let pods = ["a", "b"].map(|name| cluster.pod(name, "v1-latency-0ms"));
    let canary = cluster.pod("c", "v2-latency-0ms-errors-100");
    slice(&cluster.server, "web", &[&pods[0], &pods[1]]);
    slice(&cluster.server, "web-canary", &[&canary]);
    cluster.settle().await;

    let split = cluster.send(visitors(), 1_000).await;
    let to_canary = answered(&split, "v2-latency-0ms-errors-100");
    // Five standard deviations of a binomial with n = 1,000 and p = 0.1 are 47.
    assert!((53..147).contains(&to_canary), "{split:?}");
    assert_eq!(split.failed.get("v2-latency-0ms-errors-100"), Some(&to_canary));
    assert_eq!((split.total, split.failed_elsewhere), (1_000, 0));
    let seen = cluster.gateway.seen();
    let of = |pod: &str| seen.pods[&("default".to_owned(), pod.to_owned())];
    assert_eq!(of("c").failures, to_canary);
    assert!(of("a").requests.abs_diff(of("b").requests) <= 1, "round robin: {seen:?}");

    let cookie = cluster.send(vec![insider()], 80).await;
    assert_eq!(answered(&cookie, "v2-latency-0ms-errors-100"), 80);

    set_weights(&cluster.server, 100, 0);
    cluster.settle().await;
    assert_eq!(answered(&cluster.send(visitors(), 200).await, "v1-latency-0ms"), 200);
    let unknown = cluster.send(vec![Visitor::plain("else.test")], 8).await;
    assert_eq!((unknown.failed_elsewhere, cluster.gateway.seen().elsewhere[&404]), (8, 8));
}

#[tokio::test]
async fn a_pod_that_refuses_connections_costs_no_request_while_another_is_ready() {
    let cluster = Sockets::open(cluster((100, 0))).await;
    let good = cluster.pod("good", "v1-latency-0ms");
    let closed = cluster.pod("closed", "v1-latency-0ms");
    slice(&cluster.server, "web", &[&good, &closed]);
    cluster.servers.close("default", "closed");
    cluster.settle().await;
    let sent = cluster.send(visitors(), 40).await;
    assert_eq!((answered(&sent, "v1-latency-0ms"), sent.failed_elsewhere), (40, 0));

    cluster.servers.close("default", "good");
    cluster.settle().await;
    let sent = cluster.send(visitors(), 8).await;
    assert_eq!((sent.failed_elsewhere, cluster.gateway.seen().elsewhere[&503]), (8, 8));
}

#[tokio::test]
async fn the_gateway_reports_the_route_as_accepted_and_settles() {
    let cluster = Sockets::open(cluster((90, 10))).await;
    cluster.settle().await;
    let route = cluster.server.get(&ROUTES, "default", "web").unwrap();
    let conditions = &route["status"]["parents"][0]["conditions"];
    assert_eq!(
        (&conditions[0]["status"], &conditions[1]["status"]),
        (&json!("True"), &json!("True"))
    );
    assert_eq!(conditions[0]["observedGeneration"], route["metadata"]["generation"]);
    let version = cluster.server.resource_version();
    cluster.settle().await;
    assert_eq!(
        cluster.server.resource_version(),
        version,
        "the statuses are written over and over"
    );
}

#[tokio::test]
async fn real_pods_are_scraped_with_their_labels_and_end_when_they_are_gone() {
    let cluster = Sockets::open(cluster((100, 0))).await;
    let pods = ["a", "b"].map(|name| cluster.pod(name, "v1-latency-0ms"));
    slice(&cluster.server, "web", &[&pods[0], &pods[1]]);
    cluster.settle().await;
    cluster.send(visitors(), 40).await;

    let mut db = Tsdb::new(3_600_000);
    let mut scraper = Scraper::default();
    let targets: Vec<Target> = pods.iter().filter_map(Target::of).collect();
    let pages = scrape_over_http(targets.clone(), Duration::from_secs(5)).await;
    scraper.store(&mut db, &pages, 1_000);
    let query = r#"sum by (pod_template_hash, version) (http_requests_total{namespace="default"})"#;
    let Answer::Vector(found) = Engine::default().instant(&db, query, 1_000).unwrap() else {
        panic!("not a vector");
    };
    assert_eq!(
        (found[0].labels.get("pod_template_hash"), found[0].value),
        ("v1-latency-0ms", 40.0)
    );

    cluster.servers.close("default", "a");
    let pages = scrape_over_http(targets[..1].to_vec(), Duration::from_secs(5)).await;
    scraper.store(&mut db, &pages, 2_000);
    let count = |query: &str| match Engine::default().instant(&db, query, 2_000).unwrap() {
        Answer::Vector(found) => found.len(),
        other => panic!("not a vector: {other:?}"),
    };
    assert_eq!(count("http_requests_total"), 0);
    assert_eq!(count("up == 0"), 1);
    assert_eq!(count("up"), 1);
}

#[test]
fn virtual_time_gives_the_same_split_and_the_same_metrics() {
    let server = cluster((90, 10));
    let stable = pod(&server, "a", "v1-errors-0", |_| "127.64.0.1".into());
    let canary = pod(&server, "c", "v2-errors-50", |_| "127.64.0.2".into());
    slice(&server, "web", &[&stable]);
    slice(&server, "web-canary", &[&canary]);
    let mut controller = Controller::new(server.clone(), "127.0.0.1");
    controller.sync().unwrap();
    let view = controller.view();
    let mut visitors = visitors();
    visitors[0].weight = 99;
    visitors.push(insider());
    let mut traffic = VirtualTraffic::new(visitors, 50.0, Behaviours::default(), 9);
    let mut db = Tsdb::new(3_600_000);
    let mut scraper = Scraper::default();
    let pods = server.list(&ResourceKey::PODS, None);
    for second in 0..120 {
        traffic.tick(&view, &pods, 1.0);
        if second % 5 == 0 {
            scraper.store(&mut db, &traffic.pages(&pods), second * 1_000);
        }
    }
    let outcomes = traffic.outcomes();
    assert_eq!((outcomes.total, outcomes.failed_elsewhere), (6_000, 0));
    // 10 % of 99 % and all of the 1 %: 10.9 % of 6,000 are 654, five standard deviations 121.
    let to_canary = answered(outcomes, "v2-errors-50");
    assert!((533..775).contains(&to_canary), "{outcomes:?}");
    let query = r#"sum(rate(http_requests_total{code="500",pod_template_hash="v2-errors-50"}[1m]))
        / sum(rate(http_requests_total{pod_template_hash="v2-errors-50"}[1m]))"#;
    let Answer::Vector(ratio) = Engine::default().instant(&db, query, 115_000).unwrap() else {
        panic!("not a vector");
    };
    assert!((0.3..0.7).contains(&ratio[0].value), "{ratio:?}");

    server.delete("test", &ResourceKey::SERVICES, "default", "web-canary").unwrap();
    controller.sync().unwrap();
    traffic.tick(&controller.view(), &pods, 10.0);
    assert!(traffic.outcomes().failed_elsewhere > 0, "a share without a Service gets 500");
}

/// A Deployment of three pods behind the Service `web`, run by the cluster's own controllers.
fn deployment(image: &str) -> Value {
    let ports = json!([{"name": "http", "containerPort": 8080}]);
    let template = json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": image, "ports": ports}]},
    });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template,
        },
    })
}

fn select_pods(server: &ApiServer) {
    let patch = json!({"spec": {"selector": {"app": "web"}}});
    server.patch_merge("test", &ResourceKey::SERVICES, "default", "web", patch).unwrap();
}

fn number(db: &crate::sim::promql::api::SharedTsdb, query: &str, at_ms: i64) -> f64 {
    let db = db.read().unwrap();
    match Engine::default().instant(&db, query, at_ms).unwrap() {
        Answer::Vector(found) => found.first().map_or(f64::NAN, |s| s.value),
        other => panic!("not a vector: {other:?}"),
    }
}

#[tokio::test]
async fn a_deployment_serves_real_requests_from_the_moment_its_pods_are_ready() {
    let server = cluster((100, 0));
    select_pods(&server);
    let options = PlaneOptions {
        scrape_every: jiff::SignedDuration::from_millis(20),
        ..PlaneOptions::new("shop.test", 400.0)
    };
    let any = "127.0.0.1:0".parse().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let plane = DataPlane::start(server.clone(), clock, options, any, any).await.unwrap();
    let mut nodes = Nodes::new(server.clone(), 2, kubelet::Behaviours::default())
        .with_addresses(plane.addresses());
    let mut controllers = Controllers::new(server.clone());
    server.create("test", deployment("web:v1-errors-0-latency-1ms")).unwrap();
    assert!(settle(&mut controllers, &mut nodes));
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    plane.start_load();
    while plane.outcomes().total < 100 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let outcomes = plane.outcomes();
    assert_eq!(answered(&outcomes, "v1-errors-0-latency-1ms"), outcomes.total);
    let counted = "sum(http_requests_total{namespace=\"default\", app=\"web\", code=\"200\"})";
    let now = || SystemClock.now().as_millisecond();
    while number(&plane.db(), counted, now()).max(0.0) < 100.0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(number(&plane.db(), "count(up == 1)", now()), 3.0);
    assert_eq!(plane.seen().pods.len(), 3);
}

#[test]
fn a_release_in_virtual_time_shows_in_the_metrics_and_repeats_itself() {
    let run = || {
        let start = "2026-01-01T00:00:00Z".parse().unwrap();
        let clock = Arc::new(SimClock::at(start));
        let server = cluster_at(clock.clone(), (100, 0));
        select_pods(&server);
        let mut nodes = Nodes::new(server.clone(), 2, kubelet::Behaviours::default());
        let mut controllers = Controllers::new(server.clone());
        let mut plane = VirtualPlane::new(server.clone(), PlaneOptions::new("shop.test", 100.0));
        let source = TsdbSource::new(Engine::default(), plane.db(), clock.clone());
        let query = r#"sum(rate(http_requests_total{code=~"5.."}[1m]))
            / sum(rate(http_requests_total[1m]))"#;
        let mut ratios = Vec::new();
        server.create("test", deployment("web:v1-errors-1")).unwrap();
        for second in 0..240 {
            if second == 120 {
                server.update("test", deployment("web:v2-errors-30")).unwrap();
            }
            while settle(&mut controllers, &mut nodes) && plane.sync().unwrap() {}
            clock.advance(jiff::SignedDuration::from_secs(1));
            plane.advance(clock.now());
            if second % 110 == 109 {
                ratios.push(source.ask(query).unwrap().single().unwrap());
            }
        }
        (ratios, plane.outcomes().clone())
    };
    let (ratios, outcomes) = run();
    assert_eq!((outcomes.total, outcomes.failed_elsewhere), (24_000, 0));
    // 6,000 requests a minute: 1 % and 30 % within five standard deviations of a binomial.
    assert!((0.003..0.017).contains(&ratios[0]) && (0.27..0.33).contains(&ratios[1]), "{ratios:?}");
    assert_eq!(run(), (ratios, outcomes));
}
