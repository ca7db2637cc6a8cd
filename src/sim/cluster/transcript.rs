//! What happened, as lines that a person reads and a test compares.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde_json::Value;

use crate::sim::apiserver::{ApiServer, ChangeKind};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// Milliseconds since the start.
    pub at_ms: i64,
    /// What kind of thing: an event's reason, `pods`, `phase`.
    pub what: String,
    /// The words.
    pub text: String,
}

/// Everything that happened since the start.
#[derive(Clone, Debug)]
pub struct Transcript {
    start: Timestamp,
    seen: u64,
    sizes: BTreeMap<String, String>,
    phases: BTreeMap<String, String>,
    /// The lines, in order.
    pub lines: Vec<Line>,
}

impl Transcript {
    /// An empty one.
    #[must_use]
    pub fn new(start: Timestamp) -> Self {
        Self { start, seen: 0, sizes: BTreeMap::new(), phases: BTreeMap::new(), lines: Vec::new() }
    }

    /// Adds a line.
    pub fn say(&mut self, now: Timestamp, what: &str, text: String) {
        let at_ms = now.as_millisecond() - self.start.as_millisecond();
        self.lines.push(Line { at_ms, what: what.to_owned(), text });
    }

    /// Adds what has changed on the server: events, phases and the sizes of ReplicaSets.
    pub fn follow(&mut self, server: &ApiServer) {
        let now = server.now();
        for change in server.changes_since(self.seen) {
            self.seen = change.rv;
            let object = &change.object;
            match &*change.resource.plural {
                "events" if change.kind == ChangeKind::Added => self.event(now, object),
                "rollouts" if change.kind != ChangeKind::Deleted => self.phase(now, object),
                "replicasets" => self.size(now, object, change.kind == ChangeKind::Deleted),
                _ => {}
            }
        }
    }

    fn event(&mut self, now: Timestamp, object: &Value) {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
        // A release says what came of its runs.
        let kind = |at: &str| text(at) == "AnalysisRun";
        if kind("/regarding/kind") || kind("/involvedObject/kind") {
            return;
        }
        let name = text("/regarding/name");
        let name = if name.is_empty() { text("/involvedObject/name") } else { name };
        let note = text("/note");
        let note = if note.is_empty() { text("/message") } else { note };
        let line = format!("{name}: {note}");
        let reason = text("/reason").to_owned();
        self.say(now, &reason, line);
    }

    fn phase(&mut self, now: Timestamp, object: &Value) {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let name = text("/metadata/name").to_owned();
        let phase = text("/status/phase").to_owned();
        if !phase.is_empty() && self.phases.get(&name) != Some(&phase) {
            self.say(now, "phase", format!("{name}: {phase}"));
            self.phases.insert(name, phase);
        }
    }

    fn size(&mut self, now: Timestamp, object: &Value, gone: bool) {
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let replicas = object.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
        let size = if gone { "gone".to_owned() } else { replicas.to_string() };
        if self.sizes.get(name) != Some(&size) {
            self.sizes.insert(name.to_owned(), size.clone());
            self.say(now, "pods", format!("{name}: {size}"));
        }
    }
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            let seconds = line.at_ms / 1_000;
            writeln!(
                f,
                "{:>5}.{:03}s  {:<22} {}",
                seconds,
                line.at_ms % 1_000,
                line.what,
                line.text
            )?;
        }
        Ok(())
    }
}
