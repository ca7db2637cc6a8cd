//! From metrics pages to series, as Prometheus does for pods: target labels added, `up` written,
//! series that end marked as gone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::sim::apiserver::{ApiServer, ResourceKey};
use crate::sim::promql::api::SharedTsdb;
use crate::sim::promql::{Labels, Tsdb, parse_exposition, stale_marker};

/// The `job` of every pod.
const JOB: &str = "kubernetes-pods";

/// A pod to scrape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Namespace and name of the pod.
    pub pod: (String, String),
    /// Where its metrics page is.
    pub address: SocketAddr,
    /// `namespace`, `pod`, `instance`, `job` and the pod's labels with their names made valid.
    pub labels: BTreeMap<String, String>,
}

/// What a target answered: the page, or why there is none.
pub type Page = Result<String, String>;

impl Target {
    /// The target of a pod; none while it is not ready or has no address.
    #[must_use]
    pub fn of(pod: &Value) -> Option<Self> {
        let (metadata, status) = (&pod["metadata"], &pod["status"]);
        let conditions = status["conditions"].as_array()?;
        let is_ready = conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
        if !is_ready {
            return None;
        }
        let address = status["podIP"].as_str()?.parse().ok()?;
        let ports = pod["spec"]["containers"][0]["ports"].as_array();
        let first = ports.and_then(|ports| ports.first());
        let port = first.and_then(|port| port["containerPort"].as_u64()).unwrap_or(8080);
        let address = SocketAddr::new(address, u16::try_from(port).ok()?);
        let namespace = metadata["namespace"].as_str().unwrap_or("default");
        let name = metadata["name"].as_str()?;
        let mut labels: BTreeMap<String, String> = metadata["labels"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(k, v)| Some((valid_name(k), v.as_str()?.to_owned())))
            .collect();
        labels.insert("namespace".to_owned(), namespace.to_owned());
        labels.insert("pod".to_owned(), name.to_owned());
        labels.insert("instance".to_owned(), address.to_string());
        labels.insert("job".to_owned(), JOB.to_owned());
        Some(Self { pod: (namespace.to_owned(), name.to_owned()), address, labels })
    }
}

/// `pod-template-hash` becomes `pod_template_hash`.
fn valid_name(label: &str) -> String {
    let valid = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    label.chars().map(valid).collect()
}

/// Remembers which series each target had, so that it can end them.
#[derive(Debug, Clone, Default)]
pub struct Scraper {
    series: BTreeMap<(String, String), BTreeSet<Labels>>,
}

impl Scraper {
    /// Writes the pages of one round at `at_ms`. A pod that is no longer among the targets has its
    /// series ended; one without a page gets `up 0` and has them ended too.
    pub fn store(&mut self, db: &mut Tsdb, pages: &[(Target, Page)], at_ms: i64) {
        let mut ended = std::mem::take(&mut self.series);
        for (target, page) in pages {
            let mut current = BTreeSet::new();
            let exposed = page.as_deref().ok().and_then(|page| parse_exposition(page).ok());
            let up = if exposed.is_some() { 1.0 } else { 0.0 };
            let samples = exposed.unwrap_or_default().into_iter();
            let samples = samples.map(|s| (labelled(s.labels, &target.labels), s.value));
            let up = (labelled(Labels::new("up", [("", "")]), &target.labels), up);
            for (labels, value) in samples.chain([up]) {
                // A page that names a series twice, or a round twice in one millisecond: the first
                // counts.
                if db.append(&labels, at_ms, value).is_ok() {
                    current.insert(labels);
                }
            }
            if let Some(before) = ended.get_mut(&target.pod) {
                before.retain(|labels| !current.contains(labels));
            }
            self.series.insert(target.pod.clone(), current);
        }
        for labels in ended.into_values().flatten() {
            let _ = db.append(&labels, at_ms, stale_marker());
        }
        db.prune(at_ms);
    }
}

/// The target's labels win; a different value in the page becomes `exported_..`.
fn labelled(mut labels: Labels, target: &BTreeMap<String, String>) -> Labels {
    for (name, value) in target {
        let exposed = labels.get(name).to_owned();
        if !exposed.is_empty() && exposed != *value {
            labels.set(&format!("exported_{name}"), &exposed);
        }
        labels.set(name, value);
    }
    labels
}

/// Scrapes every ready pod of `server` once per `interval` until `stop`.
pub(super) async fn scrape_regularly(
    server: ApiServer,
    db: SharedTsdb,
    clock: Arc<dyn Clock>,
    interval: Duration,
    stop: CancellationToken,
) {
    let mut scraper = Scraper::default();
    let mut tick = tokio::time::interval(interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stop.cancelled() => return,
        }
        let at_ms = clock.now().as_millisecond();
        let pods = server.list(&ResourceKey::PODS, None);
        let targets = pods.iter().filter_map(|pod| Target::of(pod)).collect();
        let pages = scrape_over_http(targets, interval).await;
        let mut db = db.write().unwrap_or_else(PoisonError::into_inner);
        scraper.store(&mut db, &pages, at_ms);
    }
}

/// Fetches the page of every target at the same time, each within `timeout`.
pub async fn scrape_over_http(targets: Vec<Target>, timeout: Duration) -> Vec<(Target, Page)> {
    let client: Client<HttpConnector, Empty<Bytes>> =
        Client::builder(TokioExecutor::new()).build(HttpConnector::new());
    let fetches = targets.into_iter().map(|target| {
        let client = client.clone();
        async move {
            let page = match tokio::time::timeout(timeout, fetch(client, target.address)).await {
                Ok(page) => page,
                Err(_) => Err(format!("no answer within {timeout:?}")),
            };
            (target, page)
        }
    });
    futures::future::join_all(fetches).await
}

async fn fetch(client: Client<HttpConnector, Empty<Bytes>>, address: SocketAddr) -> Page {
    let uri = format!("http://{address}/metrics").parse().map_err(|e| format!("{e}"))?;
    let answer = client.get(uri).await.map_err(|e| e.to_string())?;
    if !answer.status().is_success() {
        return Err(format!("answered {}", answer.status()));
    }
    let body = answer.into_body().collect().await.map_err(|e| e.to_string())?;
    String::from_utf8(body.to_bytes().to_vec()).map_err(|e| e.to_string())
}
