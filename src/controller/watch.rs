//! Watches: one for each kind, from the API server into the engine's world.
//!
//! A kind that is not served yet is asked for again until it is, so that CRDs may come later.

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
use crate::observe::{Key, Kind};

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
    let mut is_listing = true;
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
                is_listing = false;
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
                let pause = failed(&error, kind, &told);
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

/// Says what went wrong; how long to wait.
fn failed(error: &watcher::Error, kind: Kind, told: &mpsc::UnboundedSender<Told>) -> Duration {
    let (_, _, name, _) = kind.names();
    if matches!(code_of(error), Some(403 | 404)) {
        // Not served, or not ours to read: nothing to wait for, and nothing to hold.
        let _closed = told.send(Told::Synced(kind));
        tracing::info!(kind = name, error = %error, "not to be had yet, asked for again");
        return ASK_AGAIN;
    }
    tracing::warn!(kind = name, error = %error, "the watch failed");
    Duration::ZERO
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
