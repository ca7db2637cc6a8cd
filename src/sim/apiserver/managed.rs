//! managedFields: who owns which field, after plain writes and after server-side apply.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    ApiStatus, Call, Cause, PatchType, Refusable, Verb, apply,
    fields::{meta_mut, object_mut, text},
    fieldset::{Difference, FieldSet, Path, shown},
    kinds::Kind,
    prepare::time,
    schemas::Schema,
};

/// One manager's fields.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    manager: String,
    apply: bool,
    version: String,
    time: String,
    subresource: String,
    fields: FieldSet,
}

/// Who writes, and how.
struct Writer<'a> {
    manager: String,
    apply: bool,
    subresource: &'a str,
    kind: &'a Kind,
    now: Timestamp,
}

impl<'a> Writer<'a> {
    fn of(call: &'a Call, kind: &'a Kind, now: Timestamp) -> Self {
        let agent = call.options.user_agent.as_deref().unwrap_or(&call.user);
        let agent = agent.split('/').next().unwrap_or_default();
        let manager = call.options.field_manager.as_deref().unwrap_or(agent).to_owned();
        let subresource = call.subresource.as_deref().unwrap_or_default();
        let apply = call.verb == Verb::Patch(PatchType::Apply);
        Self { manager, apply, subresource, kind, now }
    }

    fn is(&self, entry: &Entry) -> bool {
        entry.manager == self.manager
            && entry.apply == self.apply
            && entry.subresource == self.subresource
    }

    /// The same of an entry as it is stored.
    fn wrote(&self, entry: &Value) -> bool {
        text(&entry["manager"]) == self.manager
            && (text(&entry["operation"]) == "Apply") == self.apply
            && text(&entry["subresource"]) == self.subresource
    }

    fn entry(&self, fields: FieldSet) -> Entry {
        Entry {
            manager: self.manager.clone(),
            apply: self.apply,
            version: self.kind.key.api_version(),
            time: time(self.now),
            subresource: self.subresource.to_owned(),
            fields,
        }
    }

    /// Takes out what nobody owns: identity, and what this endpoint does not write.
    fn strip(&self, fields: &mut FieldSet) {
        if self.subresource == "status" {
            return fields.keep_only("f:status");
        }
        for path in [&["f:apiVersion"][..], &["f:kind"]] {
            fields.prune(path);
        }
        for name in [
            "f:name",
            "f:namespace",
            "f:creationTimestamp",
            "f:selfLink",
            "f:uid",
            "f:generation",
            "f:managedFields",
            "f:resourceVersion",
            "f:deletionTimestamp",
            "f:deletionGracePeriodSeconds",
        ] {
            fields.prune(&["f:metadata", name]);
        }
        if self.kind.status {
            fields.prune(&["f:status"]);
        }
    }
}

/// Writes down what a plain write (POST, PUT, PATCH) did. Entries that it does not touch stay as
/// they are stored: reading and writing them anew is most of what a write costs.
pub fn update(call: &Call, kind: &Kind, old: Option<&Value>, new: &mut Value, now: Timestamp) {
    let writer = Writer::of(call, kind, now);
    let schema = Schema::of(kind);
    let none = json!({});
    let mut entries = live_or_new(old, new, !writer.subresource.is_empty());
    if old.is_some() && entries.is_empty() {
        // Kubernetes keeps no track of an object that nobody tracks, until somebody applies it.
        meta_mut(new).remove("managedFields");
        return;
    }
    let mut difference = Difference::between(old.unwrap_or(&none), new, schema);
    for set in [&mut difference.written, &mut difference.modified, &mut difference.removed] {
        writer.strip(set);
    }
    let Difference { written, modified: mut taken, removed } = difference;
    taken.add(&removed);
    let mut is_there = false;
    for entry in &mut entries {
        let mine = writer.wrote(entry);
        let fields = &mut entry["fieldsV1"];
        if !mine {
            taken.take_out_of(fields);
            continue;
        }
        is_there = true;
        if !written.is_within(fields) || removed.meets(fields) {
            removed.take_out_of(fields);
            written.put_into(fields);
            entry["time"] = json!(time(now));
        }
        if !kind.key.is_of(text(&entry["apiVersion"])) {
            entry["apiVersion"] = json!(kind.key.api_version());
        }
    }
    if !is_there && !written.is_empty() {
        entries.push(writer.entry(written).write());
    }
    store(new, entries);
}

/// Applies a configuration: the wanted object, with its managedFields.
pub fn applied(
    call: &Call,
    kind: &Kind,
    live: Option<&Value>,
    applied: &Value,
    now: Timestamp,
) -> Refusable<Value> {
    let writer = Writer::of(call, kind, now);
    let schema = Schema::of(kind);
    let mut wanted = applied.clone();
    drop_nulls(&mut wanted);
    let mut claimed = FieldSet::of(&wanted, schema);
    writer.strip(&mut claimed);
    let none = json!({});
    let mut entries = live.map(|live| read(&live["metadata"]["managedFields"])).unwrap_or_default();
    if let Some(live) = live.filter(|_| entries.is_empty()) {
        entries.push(before_first_apply(&writer, live, schema));
    }
    let live = live.unwrap_or(&none);
    let mut merged = live.clone();
    apply::merge(&mut merged, &wanted, schema);
    let written = Difference::between(live, &merged, schema).written;
    contest(&writer, &mut entries, &written, call.options.force)?;
    let (own, others): (Vec<Entry>, Vec<Entry>) =
        entries.into_iter().partition(|entry| writer.is(entry));
    let before = own.into_iter().next();
    let mut abandoned = before.as_ref().map(|entry| entry.fields.clone()).unwrap_or_default();
    abandoned.subtract(&claimed);
    let mut rest = claimed.clone();
    others.iter().for_each(|entry| rest.add(&entry.fields));
    apply::give_up(&mut merged, abandoned.paths(), &rest, schema);
    let mut entry = writer.entry(claimed);
    if let Some(before) = before.filter(|before| before.fields == entry.fields) {
        entry.time = before.time;
    }
    let mut entries = others;
    entries.push(entry);
    store(&mut merged, entries.iter().map(Entry::write).collect());
    Ok(merged)
}

/// The owner of everything in an object that had no owners so far.
fn before_first_apply(writer: &Writer<'_>, live: &Value, schema: Schema<'_>) -> Entry {
    let mut fields = FieldSet::of(live, schema);
    writer.strip(&mut fields);
    let manager = "before-first-apply".to_owned();
    Entry { manager, apply: false, subresource: String::new(), ..writer.entry(fields) }
}

/// Refuses to take fields from others, or takes them.
fn contest(
    writer: &Writer<'_>,
    entries: &mut [Entry],
    written: &FieldSet,
    force: bool,
) -> Refusable<()> {
    let mut conflicts: Vec<(String, Path)> = Vec::new();
    for entry in entries.iter_mut().filter(|entry| !writer.is(entry)) {
        if force {
            entry.fields.subtract(written);
        } else {
            let paths = entry.fields.common(written);
            conflicts.extend(paths.into_iter().map(|path| (shown_manager(entry), path)));
        }
    }
    if conflicts.is_empty() { Ok(()) } else { Err(conflict(&conflicts)) }
}

fn shown_manager(entry: &Entry) -> String {
    let mut text = format!("{:?}", entry.manager);
    if !entry.subresource.is_empty() {
        text.push_str(&format!(" with subresource {:?}", entry.subresource));
    }
    if !entry.apply {
        text.push_str(&format!(" using {}", entry.version));
    }
    text
}

fn conflict(conflicts: &[(String, Path)]) -> Box<ApiStatus> {
    let causes: Vec<Value> = conflicts
        .iter()
        .map(|(manager, path)| {
            json!({"reason": "FieldManagerConflict", "field": shown(path),
                   "message": format!("conflict with {manager}")})
        })
        .collect();
    let message = match conflicts {
        [(manager, path)] => {
            format!("Apply failed with 1 conflict: conflict with {manager}: {}", shown(path))
        }
        many => {
            let mut sorted = many.to_vec();
            sorted.sort();
            let mut lines = Vec::new();
            let mut last = None;
            for (manager, path) in &sorted {
                if last != Some(manager) {
                    lines.push(format!("conflicts with {manager}:"));
                    last = Some(manager);
                }
                lines.push(format!("- {}", shown(path)));
            }
            format!("Apply failed with {} conflicts: {}", many.len(), lines.join("\n"))
        }
    };
    let details = json!({"causes": causes});
    Box::new(ApiStatus { details, ..*ApiStatus::new(409, "Conflict", message) })
}

/// Apply needs a manager and must not bring managedFields.
pub fn check_apply(call: &Call, body: &Value) -> Refusable<()> {
    if call.options.field_manager.is_none() {
        let cause = Cause::required("fieldManager", "is required for apply patch");
        return Err(ApiStatus::invalid("PatchOptions", "meta.k8s.io", "", &[cause]));
    }
    let given = body["metadata"]["managedFields"].as_array();
    if given.is_some_and(|entries| !entries.is_empty()) {
        return Err(ApiStatus::bad_request("metadata.managedFields must be nil"));
    }
    Ok(())
}

/// The entries that a write starts from: its own if it brings some, else the stored ones. One
/// empty entry means "nobody owns anything".
fn live_or_new(old: Option<&Value>, new: &mut Value, subresource: bool) -> Vec<Value> {
    let given = match meta_mut(new).remove("managedFields") {
        Some(Value::Array(entries)) => entries,
        _ => Vec::new(),
    };
    if !subresource && given.as_slice() == [json!({})] {
        return Vec::new();
    }
    let live = old.and_then(|old| old["metadata"]["managedFields"].as_array());
    match live {
        Some(live) if (subresource || given.is_empty()) && given != *live => live.clone(),
        None if subresource => Vec::new(),
        _ => given,
    }
}

fn read(entries: &Value) -> Vec<Entry> {
    entries.as_array().into_iter().flatten().map(Entry::read).collect()
}

impl Entry {
    fn read(entry: &Value) -> Self {
        Self {
            manager: text(&entry["manager"]).to_owned(),
            apply: text(&entry["operation"]) == "Apply",
            version: text(&entry["apiVersion"]).to_owned(),
            time: text(&entry["time"]).to_owned(),
            subresource: text(&entry["subresource"]).to_owned(),
            fields: FieldSet::read(&entry["fieldsV1"]),
        }
    }

    fn write(&self) -> Value {
        let mut value = json!({
            "manager": self.manager,
            "operation": if self.apply { "Apply" } else { "Update" },
            "apiVersion": self.version, "time": self.time,
            "fieldsType": "FieldsV1", "fieldsV1": self.fields.write(),
        });
        if !self.subresource.is_empty() {
            value["subresource"] = json!(self.subresource);
        }
        value
    }
}

/// Stores the entries that own something, in their order.
fn store(object: &mut Value, mut entries: Vec<Value>) {
    entries.retain(|entry| entry["fieldsV1"].as_object().is_some_and(|fields| !fields.is_empty()));
    entries.sort_by(|a, b| {
        fn rank(entry: &Value) -> (bool, [&str; 3]) {
            let word = |name: &str| text(&entry[name]);
            (word("operation") != "Apply", [word("time"), word("manager"), word("subresource")])
        }
        rank(a).cmp(&rank(b))
    });
    let metadata = meta_mut(object);
    if entries.is_empty() {
        metadata.remove("managedFields");
    } else {
        metadata.insert("managedFields".into(), Value::Array(entries));
    }
}

/// Drops null fields: an applied null is no opinion.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(_) => {
            let fields = object_mut(value);
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
