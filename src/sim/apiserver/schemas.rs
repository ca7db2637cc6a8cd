//! Schemas of what is served. Those of built-in kinds are what `k8s-openapi` says, written down in
//! `types.json`: as code they would be two megabytes of the binary. What it does not say, how lists
//! are merged, comes from `lists.txt`.

use std::{collections::BTreeMap, sync::OnceLock};

use serde_json::{Map, Value, json};

use super::{
    fields::{object_mut, text},
    kinds::{Kind, Kinds},
};
use crate::sim::place::Place;

const REFERENCE: &str = "#/components/schemas/";
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Every built-in type by its name, such as `io.k8s.api.core.v1.Pod`. That the file can be read is what the
/// test sees that compares it.
fn types() -> &'static Map<String, Value> {
    static TYPES: OnceLock<Map<String, Value>> = OnceLock::new();
    TYPES.get_or_init(|| {
        let mut types = serde_json::from_str(include_str!("types.json")).unwrap_or_default();
        decorate(&mut types);
        types
    })
}

/// Writes `lists.txt` into the schemas, in the words of Kubernetes' OpenAPI.
fn decorate(types: &mut Map<String, Value>) {
    let names: Vec<String> = types.keys().cloned().collect();
    for line in include_str!("lists.txt").lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some((short, rest)) = words.split_first() else { continue };
        let suffix = format!(".{short}");
        for name in names.iter().filter(|name| name.ends_with(&suffix)) {
            let Some(schema) = types.get_mut(name) else { continue };
            match *rest {
                [] => {
                    object_mut(schema).insert("x-kubernetes-map-type".into(), json!("atomic"));
                }
                [field, keys, merge_key, strategy] => {
                    let field = &mut schema["properties"][field];
                    if !field.is_null() {
                        mark(object_mut(field), keys, merge_key, strategy);
                    }
                }
                _ => {}
            }
        }
    }
}

fn mark(field: &mut Map<String, Value>, keys: &str, merge_key: &str, strategy: &str) {
    let mut set = |name: &str, value: Value| {
        field.insert(format!("x-kubernetes-{name}"), value);
    };
    match keys {
        "-" => {}
        "set" => set("list-type", json!("set")),
        "atomic" => set("map-type", json!("atomic")),
        keys => {
            set("list-type", json!("map"));
            set("list-map-keys", json!(keys.split(',').collect::<Vec<_>>()));
        }
    }
    if merge_key != "-" {
        set("patch-merge-key", json!(merge_key));
    }
    if strategy != "-" {
        set("patch-strategy", json!(strategy));
    }
}

/// Name of the built-in type of a kind.
fn type_of(kind: &Kind) -> Option<&'static str> {
    type ByKind = BTreeMap<String, &'static str>;
    static NAMES: OnceLock<BTreeMap<String, ByKind>> = OnceLock::new();
    if kind.crd.is_some() {
        return None;
    }
    let names = NAMES.get_or_init(|| {
        let kinds = Kinds::built_in();
        let name = |kind: &Kind| {
            let group =
                kind.key.group.split('.').next().filter(|g| !g.is_empty()).unwrap_or("core");
            let suffix = format!(".{group}.{}.{}", kind.key.version, kind.kind);
            types().keys().find(|name| name.ends_with(&suffix)).map(String::as_str)
        };
        let mut names = BTreeMap::<String, ByKind>::new();
        for kind in kinds.iter() {
            if let Some(name) = name(kind) {
                let group = names.entry(kind.key.group.to_string()).or_default();
                group.insert(kind.kind.clone(), name);
            }
        }
        names
    });
    names.get(kind.key.group.as_ref())?.get(&kind.kind).copied()
}

/// Drops the fields of a built-in kind's object that its type does not have; answers with their
/// paths. What is as it was in `old` was pruned when that was stored.
pub fn prune(kind: &Kind, old: Option<&Value>, object: &mut Value) -> Vec<String> {
    let mut dropped = Vec::new();
    if type_of(kind).is_some() {
        drop_unknown(object, old, Schema::of(kind), Place::Top, &mut dropped);
    }
    dropped
}

fn drop_unknown(
    value: &mut Value,
    old: Option<&Value>,
    schema: Schema<'_>,
    here: Place<'_>,
    dropped: &mut Vec<String>,
) {
    if old == Some(value) || schema.says_nothing() {
        return;
    }
    match value {
        Value::Object(fields) => {
            let known = schema.inner["properties"].as_object();
            if let Some(known) = known.filter(|_| schema.inner["additionalProperties"].is_null()) {
                fields.retain(|name, _| {
                    let kept = known.contains_key(name);
                    if !kept {
                        dropped.push(Place::Field(&here, name).to_string());
                    }
                    kept
                });
            }
            for (name, value) in fields {
                let old = old.and_then(|old| old.get(name));
                drop_unknown(value, old, schema.field(name), Place::Field(&here, name), dropped);
            }
        }
        Value::Array(items) => {
            for (at, value) in items.iter_mut().enumerate() {
                let old = old.and_then(|old| old.get(at));
                drop_unknown(value, old, schema.items(), Place::Item(&here, at), dropped);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Adds the schema of a kind, and all that it refers to, to the components of a document; answers
/// with its name.
pub fn add(kind: &Kind, components: &mut Map<String, Value>) -> String {
    if let Some(name) = type_of(kind) {
        copy(name, components);
        return name.to_owned();
    }
    let reversed: Vec<&str> = kind.key.group.split('.').rev().collect();
    let name = format!("{}.{}.{}", reversed.join("."), kind.key.version, kind.kind);
    let mut schema = match custom(kind) {
        Some(schema) => schema.clone(),
        None => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
    };
    let properties = object_mut(object_mut(&mut schema).entry("properties").or_insert(json!({})));
    for word in ["apiVersion", "kind"] {
        properties.insert(word.to_owned(), json!({"type": "string"}));
    }
    properties.insert(
        "metadata".into(),
        json!({"allOf": [{"$ref": format!("{REFERENCE}{OBJECT_META}")}]}),
    );
    copy(OBJECT_META, components);
    components.insert(name.clone(), schema);
    name
}

fn copy(name: &str, components: &mut Map<String, Value>) {
    let Some(schema) = types().get(name) else { return };
    if components.contains_key(name) {
        return;
    }
    components.insert(name.to_owned(), schema.clone());
    let mut names = Vec::new();
    references(schema, &mut names);
    for name in names {
        copy(&name, components);
    }
}

fn references(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let name = fields.get("$ref").and_then(|r| text(r).strip_prefix(REFERENCE));
            names.extend(name.map(str::to_owned));
            fields.values().for_each(|value| references(value, names));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn custom(kind: &Kind) -> Option<&Value> {
    let versions = kind.crd.as_ref()?["spec"]["versions"].as_array()?;
    let version = versions.iter().find(|v| text(&v["name"]) == kind.key.version)?;
    Some(&version["schema"]["openAPIV3Schema"]).filter(|schema| schema.is_object())
}

/// How a list is merged by server-side apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum List<'a> {
    /// As one value.
    Atomic,
    /// As a set of scalars.
    Set,
    /// By these keys of its items.
    Map(Vec<&'a str>),
}

/// The schema of one place in an object; places without one merge as their JSON suggests.
#[derive(Debug, Clone, Copy)]
pub struct Schema<'a> {
    /// The node as it stands where it is used.
    outer: &'a Value,
    /// What it refers to.
    inner: &'a Value,
    root: bool,
}

const NO_SCHEMA: &Value = &Value::Null;

impl<'a> Schema<'a> {
    /// The schema of a kind.
    #[must_use]
    pub fn of(kind: &'a Kind) -> Self {
        let node = match type_of(kind) {
            Some(name) => types().get(name),
            None => custom(kind),
        };
        let node = node.unwrap_or(NO_SCHEMA);
        Self { outer: node, inner: node, root: true }
    }

    /// No schema: everything merges as its JSON suggests.
    #[must_use]
    pub fn none() -> Self {
        Self { outer: NO_SCHEMA, inner: NO_SCHEMA, root: false }
    }

    /// True where every value is known: no schema below here names a field.
    fn says_nothing(&self) -> bool {
        let names = |part: &str| self.inner.get(part).is_some_and(|below| !below.is_null());
        !self.root && !["properties", "additionalProperties", "items"].into_iter().any(names)
    }

    fn at(outer: &'a Value) -> Self {
        let reference = match &outer["$ref"] {
            Value::Null => &outer["allOf"][0]["$ref"],
            reference => reference,
        };
        let name = text(reference).strip_prefix(REFERENCE);
        let inner = name.and_then(|name| types().get(name)).unwrap_or(outer);
        Self { outer, inner, root: false }
    }

    /// The schema of a field.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        if self.root && name == "metadata" {
            let node = types().get(OBJECT_META).unwrap_or(NO_SCHEMA);
            return Self { outer: node, inner: node, root: false };
        }
        match self.inner["properties"].get(name) {
            Some(node) => Self::at(node),
            None => Self::at(&self.inner["additionalProperties"]),
        }
    }

    /// The schema of a list's items.
    #[must_use]
    pub fn items(&self) -> Self {
        Self::at(&self.inner["items"])
    }

    fn extension(&self, name: &str) -> &'a Value {
        match &self.outer[name] {
            Value::Null => &self.inner[name],
            given => given,
        }
    }

    /// How the list is merged.
    #[must_use]
    pub fn list(&self) -> List<'a> {
        match text(self.extension("x-kubernetes-list-type")) {
            "set" => List::Set,
            "map" => {
                let keys = self.extension("x-kubernetes-list-map-keys").as_array();
                List::Map(keys.into_iter().flatten().map(text).collect())
            }
            _ => List::Atomic,
        }
    }

    /// True for an object or map that is merged as one value.
    #[must_use]
    pub fn is_atomic(&self) -> bool {
        self.extension("x-kubernetes-map-type") == "atomic"
    }

    /// The key of a strategic merge.
    #[must_use]
    pub fn merge_key(&self) -> Option<&'a str> {
        self.extension("x-kubernetes-patch-merge-key").as_str()
    }

    /// True if a strategic merge has this strategy here.
    #[must_use]
    pub fn has_strategy(&self, strategy: &str) -> bool {
        let given = text(self.extension("x-kubernetes-patch-strategy"));
        given.split(',').any(|one| one == strategy)
    }

    /// The default of a key that an item may leave out.
    #[must_use]
    pub fn default_of(&self, key: &str) -> Option<Value> {
        match self.inner["properties"][key].get("default") {
            Some(given) => Some(given.clone()),
            None if key == "protocol" => Some(json!("TCP")),
            None => None,
        }
    }
}
