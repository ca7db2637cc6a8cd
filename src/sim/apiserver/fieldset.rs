//! Sets of field paths, as managedFields writes them (FieldsV1), and what they are made from: an
//! object, or the difference of two.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    fields::object_mut,
    schemas::{List, Schema},
};

/// A set of paths: a tree whose edges are FieldsV1 elements such as `f:spec`, `k:{"name":"app"}`
/// or `v:"x"`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSet(BTreeMap<String, Node>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Node {
    /// The path that ends here is in the set.
    member: bool,
    below: FieldSet,
}

/// A path: the elements from the top.
pub type Path = Vec<String>;

impl FieldSet {
    /// Reads FieldsV1.
    #[must_use]
    pub fn read(fields: &Value) -> Self {
        let fields = fields.as_object().into_iter().flatten();
        let nodes =
            fields.filter(|(element, _)| element.as_str() != ".").map(|(element, value)| {
                let below = Self::read(value);
                let member = below.0.is_empty() || value.get(".").is_some();
                (element.clone(), Node { member, below })
            });
        Self(nodes.collect())
    }

    /// Writes FieldsV1.
    #[must_use]
    pub fn write(&self) -> Value {
        let fields = self.0.iter().map(|(element, node)| (element.clone(), node.write()));
        Value::Object(fields.collect())
    }

    /// True if no path is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every path of an object.
    #[must_use]
    pub fn of(object: &Value, schema: Schema<'_>) -> Self {
        let mut set = Self::default();
        set.add_below(object, schema);
        set
    }

    /// Adds what is below a value; true if a merge takes it as one, so that its own path counts.
    fn add_below(&mut self, value: &Value, schema: Schema<'_>) -> bool {
        match children(value, schema) {
            None => true,
            Some(children) => {
                for (element, child, schema) in &children {
                    let node = self.0.entry(element.clone()).or_default();
                    let leaf = node.below.add_below(child, *schema);
                    node.member |= leaf || !element.starts_with("f:");
                }
                children.is_empty()
            }
        }
    }

    fn insert(&mut self, path: &[String]) {
        if let [element, rest @ ..] = path {
            let node = self.0.entry(element.clone()).or_default();
            if rest.is_empty() {
                node.member = true;
            } else {
                node.below.insert(rest);
            }
        }
    }

    /// Adds the paths of another set.
    pub fn add(&mut self, other: &Self) {
        for (element, theirs) in &other.0 {
            let ours = self.0.entry(element.clone()).or_default();
            ours.member |= theirs.member;
            ours.below.add(&theirs.below);
        }
    }

    /// Takes the paths of another set out.
    pub fn subtract(&mut self, other: &Self) {
        for (element, theirs) in &other.0 {
            if let Some(ours) = self.0.get_mut(element) {
                ours.member &= !theirs.member;
                ours.below.subtract(&theirs.below);
            }
        }
        self.0.retain(|_, node| node.member || !node.below.is_empty());
    }

    /// Takes a path and everything below it out.
    pub fn prune(&mut self, path: &[&str]) {
        match path {
            [] => {}
            [last] => {
                self.0.remove(*last);
            }
            [first, rest @ ..] => {
                if let Some(node) = self.0.get_mut(*first) {
                    node.below.prune(rest);
                    if !node.member && node.below.is_empty() {
                        self.0.remove(*first);
                    }
                }
            }
        }
    }

    /// Keeps only what is below this top-level field.
    pub fn keep_only(&mut self, element: &str) {
        self.0.retain(|name, _| name == element);
    }

    /// The paths that are in both sets.
    #[must_use]
    pub fn common(&self, other: &Self) -> Vec<Path> {
        let mut found = Vec::new();
        self.common_below(other, &mut Vec::new(), &mut found);
        found
    }

    fn common_below(&self, other: &Self, here: &mut Path, found: &mut Vec<Path>) {
        for (element, ours) in &self.0 {
            let Some(theirs) = other.0.get(element) else { continue };
            here.push(element.clone());
            if ours.member && theirs.member {
                found.push(here.clone());
            }
            ours.below.common_below(&theirs.below, here, found);
            here.pop();
        }
    }

    /// Adds these paths to a set in the form of FieldsV1.
    pub fn put_into(&self, fields: &mut Value) {
        let theirs = object_mut(fields);
        for (element, node) in &self.0 {
            match theirs.get_mut(element) {
                None => {
                    theirs.insert(element.clone(), node.write());
                }
                Some(below) => {
                    let member = is_member(below) || node.member;
                    node.below.put_into(below);
                    mark(below, member);
                }
            }
        }
    }

    /// Takes these paths out of a set in the form of FieldsV1.
    pub fn take_out_of(&self, fields: &mut Value) {
        let Some(theirs) = fields.as_object_mut() else { return };
        for (element, node) in &self.0 {
            let Some(below) = theirs.get_mut(element) else { continue };
            let member = is_member(below) && !node.member;
            object_mut(below).remove(".");
            node.below.take_out_of(below);
            if member {
                mark(below, member);
            } else if below.as_object().is_none_or(Map::is_empty) {
                theirs.remove(element);
            }
        }
    }

    /// True if a set in the form of FieldsV1 has any of these paths.
    #[must_use]
    pub fn meets(&self, fields: &Value) -> bool {
        self.0.iter().any(|(element, node)| {
            fields.get(element).is_some_and(|theirs| {
                let is_member = node.member && is_member(theirs);
                is_member || node.below.meets(theirs)
            })
        })
    }

    /// True if a set in the form of FieldsV1 has all of these paths.
    #[must_use]
    pub fn is_within(&self, fields: &Value) -> bool {
        self.0.iter().all(|(element, node)| {
            fields.get(element).is_some_and(|theirs| {
                (!node.member || is_member(theirs)) && node.below.is_within(theirs)
            })
        })
    }

    /// True if the path is in the set, or any path below it.
    #[must_use]
    pub fn touches(&self, path: &[String]) -> bool {
        match path {
            [] => !self.is_empty(),
            [element, rest @ ..] => self.0.get(element).is_some_and(|node| match rest {
                [] => true,
                rest => node.below.touches(rest),
            }),
        }
    }

    /// Every path in the set; those further down come first.
    #[must_use]
    pub fn paths(&self) -> Vec<Path> {
        let mut paths = Vec::new();
        for (element, node) in &self.0 {
            for mut below in node.below.paths() {
                below.insert(0, element.clone());
                paths.push(below);
            }
            if node.member {
                paths.push(vec![element.clone()]);
            }
        }
        paths
    }
}

impl Node {
    fn write(&self) -> Value {
        let mut below = self.below.write();
        mark(&mut below, self.member);
        below
    }
}

/// Says of a node of a FieldsV1 whether the path that ends there is in the set; where nothing is below it,
/// that goes without saying.
fn mark(node: &mut Value, member: bool) {
    let fields = object_mut(node);
    if member && !fields.is_empty() {
        fields.insert(".".to_owned(), json!({}));
    }
}

/// Whether the path that ends at this node of a FieldsV1 is in the set.
fn is_member(node: &Value) -> bool {
    node.get(".").is_some() || node.as_object().is_some_and(Map::is_empty)
}

/// What differs between two objects.
#[derive(Debug, Default)]
pub struct Difference {
    /// Paths that only the new object has, and those with another value.
    pub written: FieldSet,
    /// Paths with another value.
    pub modified: FieldSet,
    /// Paths that only the old object has.
    pub removed: FieldSet,
}

impl Difference {
    /// Compares two objects.
    #[must_use]
    pub fn between(old: &Value, new: &Value, schema: Schema<'_>) -> Self {
        let mut difference = Self::default();
        if old != new {
            difference.compare(old, new, schema, &mut Vec::new());
        }
        difference
    }

    /// Compares two values that are known to differ.
    fn compare(&mut self, old: &Value, new: &Value, schema: Schema<'_>, here: &mut Path) {
        if let (Value::Object(before), Value::Object(after), false) = (old, new, schema.is_atomic())
        {
            return self.compare_fields(before, after, schema, here);
        }
        let sides = children(old, schema).zip(children(new, schema));
        let Some((before, after)) = sides else {
            self.written.insert(here);
            self.modified.insert(here);
            return;
        };
        let find = |list: &[Child<'_>], wanted: &str| {
            list.iter().position(|(element, _, _)| element == wanted)
        };
        for (element, child, schema) in &after {
            here.push(element.clone());
            match find(&before, element).and_then(|at| before.get(at)) {
                Some((_, old, _)) if old == child => {}
                Some((_, old, _)) => self.compare(old, child, *schema, here),
                None => add_all(&mut self.written, here, child, *schema),
            }
            here.pop();
        }
        for (element, child, schema) in &before {
            if find(&after, element).is_none() {
                here.push(element.clone());
                add_all(&mut self.removed, here, child, *schema);
                here.pop();
            }
        }
    }
}

impl Difference {
    /// Two objects whose fields are owned one by one: only what differs is put into words.
    fn compare_fields(
        &mut self,
        before: &Map<String, Value>,
        after: &Map<String, Value>,
        schema: Schema<'_>,
        here: &mut Path,
    ) {
        for (name, new) in after {
            let old = before.get(name);
            if old == Some(new) {
                continue;
            }
            here.push(format!("f:{name}"));
            match old {
                Some(old) => self.compare(old, new, schema.field(name), here),
                None => add_all(&mut self.written, here, new, schema.field(name)),
            }
            here.pop();
        }
        for (name, old) in before.iter().filter(|(name, _)| !after.contains_key(*name)) {
            here.push(format!("f:{name}"));
            add_all(&mut self.removed, here, old, schema.field(name));
            here.pop();
        }
    }
}

fn add_all(set: &mut FieldSet, here: &Path, value: &Value, schema: Schema<'_>) {
    let mut below = FieldSet::default();
    let leaf = below.add_below(value, schema);
    let keyed = here.last().is_some_and(|element| !element.starts_with("f:"));
    if leaf || keyed {
        set.insert(here);
    }
    if below.is_empty() {
        return;
    }
    let mut tree = below;
    for element in here.iter().rev() {
        tree = FieldSet(BTreeMap::from([(element.clone(), Node { member: false, below: tree })]));
    }
    set.add(&tree);
}

type Child<'a> = (String, &'a Value, Schema<'a>);

/// The parts of a value that are owned one by one; `None` if it is owned as a whole.
#[must_use]
pub fn children<'a>(value: &'a Value, schema: Schema<'a>) -> Option<Vec<Child<'a>>> {
    match value {
        Value::Object(fields) if !schema.is_atomic() => Some(
            fields
                .iter()
                .map(|(name, child)| (format!("f:{name}"), child, schema.field(name)))
                .collect(),
        ),
        Value::Array(items) => match schema.list() {
            List::Atomic => None,
            List::Set => {
                Some(items.iter().map(|i| (format!("v:{i}"), i, schema.items())).collect())
            }
            List::Map(keys) => Some(
                items.iter().map(|i| (element_of(i, &keys, schema), i, schema.items())).collect(),
            ),
        },
        _ => None,
    }
}

/// The element of a list's item that has keys.
#[must_use]
pub fn element_of(item: &Value, keys: &[&str], schema: Schema<'_>) -> String {
    let mut found = Map::new();
    for key in keys {
        let given = item.get(*key).filter(|value| !value.is_null()).cloned();
        if let Some(value) = given.or_else(|| schema.items().default_of(key)) {
            found.insert((*key).to_owned(), value);
        }
    }
    format!("k:{}", Value::Object(found))
}

/// A path as messages show it: `.spec.containers[name="app"].image`.
#[must_use]
pub fn shown(path: &[String]) -> String {
    let mut text = String::new();
    for element in path {
        match element.split_once(':') {
            Some(("f", name)) => text.push_str(&format!(".{name}")),
            Some(("k", keys)) => {
                let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let keys: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
                text.push_str(&format!("[{}]", keys.join(",")));
            }
            Some((_, value)) => text.push_str(&format!("[={value}]")),
            None => text.push_str(element),
        }
    }
    text
}
