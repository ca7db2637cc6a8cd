//! Watches: the changes of a resource as a stream of lines.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::Stream;
use http_body::Frame;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    super::{
        ApiServer, ApiStatus, Call, Cause, Change, ChangeKind, Kind, Refusable,
        fields::{meta, object_mut},
        selector::Selector,
        view,
    },
    faults::Fault,
    present::{self, Form},
    route::Query,
};

/// Time between two bookmarks, as in Kubernetes.
const BOOKMARK: Duration = Duration::from_secs(60);
/// Watches that name no timeout end after this long, as in Kubernetes: 30 to 60 minutes.
const TIMEOUT: Duration = Duration::from_secs(45 * 60);

/// One watch, before it begins.
pub struct Watch {
    server: ApiServer,
    kind: Arc<Kind>,
    selector: Selector,
    form: Form,
    fault: Fault,
    bookmarks: bool,
    initial: bool,
    /// Changes after this one are shown; `None` for "from now, and all that is there".
    from: Option<u64>,
    timeout: Duration,
}

impl Watch {
    /// Reads a watch request.
    pub fn new(
        server: &ApiServer,
        call: &Call,
        query: &Query,
        form: Form,
        fault: Fault,
    ) -> Refusable<Self> {
        let flag = |name: &str| query.get(name).is_some_and(|v| v == "true" || v == "1");
        let kind = server.lock().kinds.get(&call.resource).cloned();
        let kind = kind.ok_or_else(ApiStatus::no_such_resource)?;
        let initial = flag("sendInitialEvents");
        let matching = query.get("resourceVersionMatch").map(String::as_str);
        if initial && matching != Some("NotOlderThan") {
            let cause = Cause {
                field: "resourceVersionMatch".into(),
                message: "Forbidden: sendInitialEvents requires setting resourceVersionMatch to \
                          NotOlderThan"
                    .into(),
                reason: "FieldValueForbidden",
            };
            return Err(ApiStatus::invalid("ListOptions", "meta.k8s.io", "", &[cause]));
        }
        let version = call.options.resource_version.as_deref().filter(|v| *v != "0");
        let from = version.map(str::parse).transpose().map_err(|_| {
            let given = version.unwrap_or_default();
            ApiStatus::new(500, "", format!("resourceVersion: Invalid value: {given:?}"))
        })?;
        let seconds = query.get("timeoutSeconds").and_then(|value| value.parse().ok());
        Ok(Self {
            server: server.clone(),
            selector: Selector::of(&kind, call)?,
            kind,
            form,
            fault,
            bookmarks: flag("allowWatchBookmarks"),
            initial,
            from: if initial { None } else { from },
            timeout: seconds.filter(|s| *s > 0).map_or(TIMEOUT, Duration::from_secs),
        })
    }

    /// The lines of the watch.
    pub fn stream(self) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send {
        async_stream::stream! {
            let mut latest = self.server.notify();
            let mut cuts = self.server.faults().cuts();
            cuts.mark_unchanged();
            let deadline = Instant::now() + self.timeout;
            let mut bookmark = Instant::now() + BOOKMARK;
            let mut gate = Gate::new(&self.fault);
            let (first, mut cursor) = self.begin();
            let mut lines = first;
            loop {
                if let Some(lag) = gate.lag.filter(|_| !lines.is_empty()) {
                    tokio::time::sleep(lag).await;
                }
                for line in lines.drain(..) {
                    match gate.pass() {
                        Pass::Show => yield Ok(Frame::data(line)),
                        Pass::Miss => {}
                        Pass::End => return,
                    }
                }
                latest.mark_unchanged();
                match self.after(cursor) {
                    Ok((more, at)) => (lines, cursor) = (more, at),
                    Err(gone) => {
                        yield Ok(Frame::data(line("ERROR", &gone.to_value())));
                        return;
                    }
                }
                if !lines.is_empty() {
                    continue;
                }
                tokio::select! {
                    changed = latest.changed() => if changed.is_err() { return },
                    _ = cuts.changed() => return,
                    () = tokio::time::sleep_until(deadline) => return,
                    () = tokio::time::sleep_until(bookmark), if self.bookmarks => {
                        bookmark = Instant::now() + BOOKMARK;
                        lines.push(self.bookmark(cursor, false));
                    }
                }
            }
        }
    }

    /// The lines that a watch begins with, and the version up to which they speak.
    fn begin(&self) -> (Vec<Bytes>, u64) {
        if let Some(from) = self.from {
            return (Vec::new(), from);
        }
        let state = self.server.lock();
        let all = state.stored_all(&self.kind, None).filter(|o| self.selector.matches(o));
        let mut lines: Vec<Bytes> =
            all.map(|object| self.event("ADDED", &view::of(&self.kind, object))).collect();
        let cursor = state.rv;
        drop(state);
        if self.initial && self.bookmarks {
            lines.push(self.bookmark(cursor, true));
        }
        (lines, cursor)
    }

    /// The lines for what changed after `cursor`, and the new cursor.
    fn after(&self, cursor: u64) -> Refusable<(Vec<Bytes>, u64)> {
        let state = self.server.lock();
        if state.kinds.get(&self.kind.key).is_none() {
            return Err(ApiStatus::expired("the resource is no longer served"));
        }
        let Some(changes) = state.since(cursor) else {
            let message = format!("too old resource version: {cursor} ({})", state.oldest());
            return Err(ApiStatus::expired(message));
        };
        let mine = changes.filter(|change| {
            change.resource.group == self.kind.store.0
                && change.resource.plural == self.kind.store.1
        });
        let lines = mine.filter_map(|change| self.line_of(change)).collect();
        Ok((lines, state.rv.max(cursor)))
    }

    /// How this watch shows a change: with a selector an object may come into view or leave it.
    fn line_of(&self, change: &Change) -> Option<Bytes> {
        let now = change.kind != ChangeKind::Deleted && self.selector.matches(&change.object);
        let before = change.previous.as_ref().is_some_and(|old| self.selector.matches(old));
        let shown = match (before, now) {
            (false, false) => return None,
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        let object = view::of(&self.kind, &change.object);
        if now || change.kind == ChangeKind::Deleted {
            return Some(self.event(shown, &object));
        }
        let mut left = Value::clone(&view::of(&self.kind, change.previous.as_ref()?));
        left["metadata"]["resourceVersion"] = json!(meta(&object, "resourceVersion"));
        Some(self.event(shown, &left))
    }

    fn event(&self, kind: &str, object: &Value) -> Bytes {
        match self.form {
            Form::Plain => line(kind, object),
            form => {
                let now = self.server.now();
                let object = std::sync::Arc::new(object.clone());
                line(kind, &present::shape(form, &self.kind, object, now))
            }
        }
    }

    fn bookmark(&self, version: u64, initial: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": version.to_string(),
                                  "creationTimestamp": null});
        if initial {
            let end = json!({"k8s.io/initial-events-end": "true"});
            object_mut(&mut metadata).insert("annotations".into(), end);
        }
        let (kind, version) = match self.form {
            Form::Metadata => ("PartialObjectMetadata", "meta.k8s.io/v1".to_owned()),
            Form::Plain | Form::Table => (self.kind.kind.as_str(), self.kind.key.api_version()),
        };
        line("BOOKMARK", &json!({"kind": kind, "apiVersion": version, "metadata": metadata}))
    }
}

#[expect(clippy::expect_used, reason = "memory does not fail to be written")]
fn line(kind: &str, object: &Value) -> Bytes {
    // Written in two halves so that the object is not copied into a new value.
    let mut text = format!("{{\"type\":\"{kind}\",\"object\":").into_bytes();
    let written = serde_json::to_writer(&mut text, object);
    written.expect("a JSON value is always written into memory");
    text.extend_from_slice(b"}\n");
    Bytes::from(text)
}

/// What the faults of a watch let through.
struct Gate {
    left: Option<usize>,
    lag: Option<Duration>,
    nth: Option<usize>,
    seen: usize,
}

enum Pass {
    Show,
    Miss,
    End,
}

impl Gate {
    fn new(fault: &Fault) -> Self {
        let mut gate = Self { left: None, lag: None, nth: None, seen: 0 };
        match fault {
            Fault::EndWatch { after } => gate.left = Some(*after),
            Fault::LagWatch(lag) => gate.lag = Some(*lag),
            Fault::MissEvents { nth } => gate.nth = Some((*nth).max(1)),
            Fault::Pass
            | Fault::Refuse(_)
            | Fault::LoseAnswer(_)
            | Fault::Disconnect { .. }
            | Fault::Delay(..) => {}
        }
        gate
    }

    fn pass(&mut self) -> Pass {
        if let Some(left) = &mut self.left {
            if *left == 0 {
                return Pass::End;
            }
            *left -= 1;
        }
        self.seen += 1;
        match self.nth {
            Some(nth) if self.seen.is_multiple_of(nth) => Pass::Miss,
            _ => Pass::Show,
        }
    }
}
