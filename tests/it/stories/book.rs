//! Watches of a whole API server: what is there now, and everything that happened.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};

use futures::TryStreamExt;
use kube::api::{ApiResource, DynamicObject, ListParams, WatchEvent, WatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, ResourceExt};
use serde_json::Value;
use sluice::clock::{Clock, SystemClock};
use tokio::task::AbortHandle;

use super::record::{FOLLOWED, Seen};

/// One namespace.
#[derive(Default)]
struct Page {
    now: BTreeMap<(String, String), Arc<Value>>,
    changes: Vec<Seen>,
}

#[derive(Default)]
struct Pages {
    pages: BTreeMap<String, Page>,
    /// A watch broke for good: what was seen is not everything.
    broken: Option<String>,
}

/// Follows every namespace until it is dropped.
pub struct Book {
    pages: Arc<Mutex<Pages>>,
    watches: Vec<AbortHandle>,
}

impl Drop for Book {
    fn drop(&mut self) {
        self.watches.iter().for_each(AbortHandle::abort);
    }
}

impl Book {
    pub async fn open(client: &kube::Client) -> Self {
        let pages = Arc::<Mutex<Pages>>::default();
        let mut watches = Vec::new();
        for (group, version, plural) in FOLLOWED {
            let kind = GroupVersionKind::gvk(group, version, "");
            let resource = ApiResource::from_gvk_with_plural(&kind, plural);
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
            let list = api.list(&ListParams::default()).await.unwrap();
            let version = list.metadata.resource_version.unwrap_or_default();
            let writer = Writer { pages: pages.clone(), plural };
            list.items.into_iter().for_each(|object| writer.note(object, false));
            watches.push(tokio::spawn(writer.follow(api, version)).abort_handle());
        }
        Self { pages, watches }
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        let pages = self.pages.lock().unwrap();
        assert!(pages.broken.is_none(), "{:?}", pages.broken);
        pages
    }

    /// Every object of a namespace: plural, object.
    pub fn now(&self, namespace: &str) -> Vec<(String, Arc<Value>)> {
        let pages = self.lock();
        let all = pages.pages.get(namespace).into_iter().flat_map(|page| &page.now);
        all.map(|((plural, _), object)| (plural.clone(), object.clone())).collect()
    }

    /// One object, `null` when there is none.
    pub fn get(&self, namespace: &str, plural: &str, name: &str) -> Arc<Value> {
        let pages = self.lock();
        let page = pages.pages.get(namespace);
        let found = page.and_then(|page| page.now.get(&(plural.to_owned(), name.to_owned())));
        found.cloned().unwrap_or_default()
    }

    /// Everything that happened in a namespace.
    pub fn changes(&self, namespace: &str) -> Vec<Seen> {
        self.lock().pages.get(namespace).map(|page| page.changes.clone()).unwrap_or_default()
    }
}

struct Writer {
    pages: Arc<Mutex<Pages>>,
    plural: &'static str,
}

impl Writer {
    fn note(&self, object: DynamicObject, gone: bool) {
        let at = SystemClock.now();
        let namespace = object.namespace().unwrap_or_default();
        let name = object.name_any();
        let version = object.resource_version().and_then(|v| v.parse().ok()).unwrap_or(0);
        let object = Arc::new(serde_json::to_value(object).unwrap());
        let mut pages = self.pages.lock().unwrap();
        let page = pages.pages.entry(namespace).or_default();
        let key = (self.plural.to_owned(), name);
        if gone {
            page.now.remove(&key);
        } else {
            page.now.insert(key, object.clone());
        }
        page.changes.push(Seen { version, at, plural: self.plural.to_owned(), gone, object });
    }

    /// A watch ends after some minutes and goes on where it ended.
    async fn follow(self, api: Api<DynamicObject>, mut version: String) {
        loop {
            let Ok(stream) = api.watch(&WatchParams::default(), &version).await else { continue };
            let mut stream = pin!(stream);
            while let Ok(Some(event)) = stream.try_next().await {
                let (object, gone) = match event {
                    WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
                    WatchEvent::Deleted(object) => (object, true),
                    WatchEvent::Bookmark(mark) => {
                        version = mark.metadata.resource_version;
                        continue;
                    }
                    WatchEvent::Error(error) => {
                        let text = format!("the watch on {} broke: {error:?}", self.plural);
                        self.pages.lock().unwrap().broken = Some(text);
                        return;
                    }
                };
                version = object.resource_version().unwrap_or(version);
                self.note(object, gone);
            }
        }
    }
}
