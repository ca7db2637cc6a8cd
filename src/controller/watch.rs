//! Watches: one for each kind, from the API server into the engine's world.
//!
//! A kind that is not served yet is asked for again until it is, so that CRDs may come later. One that may
//! not be listed is not taken for one without objects: until it is listed nothing is decided.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::engine::Engine;
use crate::observe::{Key, Kind, Unlisted};

/// How soon a kind that is not served is asked for again. A discovery of the whole cluster is not made.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// A list that gives nothing for this long is asked for again: a server that hung may be well by now.
const LIST_PATIENCE: Duration = Duration::from_secs(30);

/// What a watch tells the loop.
#[derive(Debug)]
pub enum Told {
    /// These have to be looked at.
    Look(Vec<Key>),
    /// The first list of a kind is complete, or the kind is known not to be served.
    Synced(Kind),
    /// The first list of a kind is refused: the world says so, and people are told.
    Refused,
}

/// Follows one kind for ever.
pub async fn follow(
    engine: Arc<Engine>,
    kind: Kind,
    namespace: Option<String>,
    told: mpsc::UnboundedSender<Told>,
    mut stop: watch::Receiver<bool>,
) {
    let (group, version, name, plural) = kind.names();
    let resource =
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, name), plural);
    let client = engine.client().clone();
    let api: Api<DynamicObject> = match &namespace {
        Some(ns) if !kind.cluster_scoped() => Api::namespaced_with(client, ns, &resource),
        _ => Api::all_with(client, &resource),
    };
    let begin = || watcher::watcher(api.clone(), watcher::Config::default()).default_backoff();
    let mut stream = pin!(begin());
    let (mut is_listing, mut was_listed) = (true, false);
    let mut listed: BTreeSet<(String, String)> = BTreeSet::new();
    loop {
        let next = tokio::select! {
            next = stream.next() => next,
            () = tokio::time::sleep(LIST_PATIENCE), if is_listing => {
                tracing::warn!(kind = name, "no answer to a list, asked for again");
                stream.set(begin());
                continue;
            }
            _ = stop.changed() => return,
        };
        let Some(next) = next else { return };
        let keys = match next {
            Ok(Event::Init) => {
                is_listing = true;
                listed.clear();
                Vec::new()
            }
            Ok(Event::InitApply(object)) => {
                listed.insert((
                    object.metadata.namespace.clone().unwrap_or_default(),
                    object.metadata.name.clone().unwrap_or_default(),
                ));
                value_of(object).map(|v| engine.see(kind, &v)).unwrap_or_default()
            }
            Ok(Event::InitDone) => {
                (is_listing, was_listed) = (false, true);
                let keys = engine.world().retain(kind, &listed);
                listed.clear();
                let _closed = told.send(Told::Synced(kind));
                keys
            }
            Ok(Event::Apply(object)) => {
                value_of(object).map(|v| engine.see(kind, &v)).unwrap_or_default()
            }
            Ok(Event::Delete(object)) => {
                value_of(object).map(|v| engine.world().delete(kind, &v)).unwrap_or_default()
            }
            Err(error) => {
                let pause = failed(&engine, &error, kind, was_listed, &told);
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    _ = stop.changed() => return,
                }
                Vec::new()
            }
        };
        if !keys.is_empty() {
            let _closed = told.send(Told::Look(keys));
        }
    }
}

/// Says what went wrong; how long to wait. What was listed once is kept as it was seen last.
fn failed(
    engine: &Engine,
    error: &watcher::Error,
    kind: Kind,
    was_listed: bool,
    told: &mpsc::UnboundedSender<Told>,
) -> Duration {
    let (_, _, name, _) = kind.names();
    let Some(code @ (403 | 404)) = code_of(error) else {
        tracing::warn!(kind = name, error = %error, "the watch failed");
        return Duration::ZERO;
    };
    let why = unlisted(kind, code);
    match &why {
        Unlisted::Holds(text) => tracing::warn!(kind = name, error = %error, "{text}"),
        Unlisted::Absent(_) => {
            tracing::info!(kind = name, error = %error, "not served yet, asked for again");
        }
    }
    if !was_listed {
        engine.world().cannot_list(kind, why);
        let _closed = told.send(if code == 404 { Told::Synced(kind) } else { Told::Refused });
    }
    ASK_AGAIN
}

/// What it means that a kind cannot be listed. Without our own definitions and the built-in kinds nothing can
/// be decided; the others may well not be installed. What is forbidden may be there all the same.
fn unlisted(kind: Kind, code: u16) -> Unlisted {
    let (group, _, name, plural) = kind.names();
    if code == 403 {
        let of = if group.is_empty() { String::new() } else { format!(".{group}") };
        return Unlisted::Holds(format!(
            "the controller may not list {plural}{of}, and decides nothing until it may: give its account \
             get, list and watch on {plural} (charts/sluice, RBAC)"
        ));
    }
    match kind {
        Kind::HttpRoute | Kind::GrpcRoute => Unlisted::Absent(format!(
            "{plural}.{group} are not served, and the release has changed a {name}: install the Gateway API"
        )),
        Kind::Policy | Kind::PolicyBinding | Kind::MetricProvider | Kind::ClusterMetricProvider => {
            Unlisted::Absent(format!("{plural}.{group} are not served"))
        }
        _ => Unlisted::Holds(format!(
            "{plural}.{group} are not served, and nothing is decided until they are: sluice install"
        )),
    }
}

fn value_of(object: DynamicObject) -> Option<Value> {
    serde_json::to_value(object).ok()
}

fn code_of(error: &watcher::Error) -> Option<u16> {
    let inner = match error {
        watcher::Error::InitialListFailed(e)
        | watcher::Error::WatchStartFailed(e)
        | watcher::Error::WatchFailed(e) => e,
        watcher::Error::WatchError(status) => return Some(status.code),
        watcher::Error::NoResourceVersion => return None,
    };
    match inner {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}
