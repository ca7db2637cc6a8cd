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
    let stream = watcher::watcher(api, watcher::Config::default()).default_backoff();
    let mut stream = pin!(stream);
    let mut listed: BTreeSet<(String, String)> = BTreeSet::new();
    loop {
        let next = tokio::select! {
            next = stream.next() => next,
            _ = stop.changed() => return,
        };
        let Some(next) = next else { return };
        let keys = match next {
            Ok(Event::Init) => {
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
                let missing = matches!(code_of(&error), Some(403 | 404));
                if missing {
                    // Not served, or not ours to read: nothing to wait for, and nothing to hold.
                    let _closed = told.send(Told::Synced(kind));
                    tracing::info!(kind = name, error = %error, "not to be had yet, asked for again");
                } else {
                    tracing::warn!(kind = name, error = %error, "the watch failed");
                }
                tokio::select! {
                    () = tokio::time::sleep(if missing { ASK_AGAIN } else { Duration::ZERO }) => {}
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
