//! Where a field stands in a YAML text.
//!
//! One reading gives the value and the places. A field that is missing stands where the closest
//! field around it does.

use std::fmt;

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Location, Spanned};

/// A line and a column, both counted from 1; the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// The line.
    pub line: u64,
    /// The column.
    pub column: u64,
}

impl Default for Place {
    fn default() -> Self {
        Self { line: 1, column: 1 }
    }
}

impl From<Location> for Place {
    fn from(location: Location) -> Self {
        // 0 is what is not known.
        Self { line: location.line().max(1), column: location.column().max(1) }
    }
}

/// A value with its place.
pub(super) struct Node {
    at: Place,
    content: Content,
}

enum Content {
    Leaf(Value),
    List(Vec<Node>),
    Map(Vec<Field>),
}

struct Field {
    name: String,
    at: Place,
    value: Node,
}

impl Node {
    /// The value alone.
    pub(super) fn value(&self) -> Value {
        match &self.content {
            Content::Leaf(value) => value.clone(),
            Content::List(items) => items.iter().map(Self::value).collect(),
            Content::Map(fields) => {
                let pairs = fields.iter().map(|field| (field.name.clone(), field.value.value()));
                Value::Object(pairs.collect::<Map<_, _>>())
            }
        }
    }

    /// The objects in it: the items of a List, else itself.
    pub(super) fn objects(&self) -> Vec<&Self> {
        let is_list = matches!(self.get("kind"), Some(Field { value, .. })
            if matches!(&value.content, Content::Leaf(kind) if kind == "List"));
        match self.get("items").map(|field| &field.value.content) {
            Some(Content::List(items)) if is_list => items.iter().collect(),
            _ => vec![self],
        }
    }

    /// The place of the field at `path`, such as `spec.steps[0].traffic`, or of the closest field
    /// around it. A field with more fields in it stands at its name.
    pub(super) fn locate(&self, path: &str) -> Place {
        let (mut node, mut at) = (self, self.at);
        for segment in segments(path) {
            match &node.content {
                Content::Map(_) => {
                    let Some(field) = node.get(segment) else { return at };
                    let leaf = matches!(field.value.content, Content::Leaf(_));
                    at = if leaf { field.value.at } else { field.at };
                    node = &field.value;
                }
                Content::List(items) => {
                    let item = segment.parse().ok().and_then(|index: usize| items.get(index));
                    let Some(item) = item else { return at };
                    (node, at) = (item, item.at);
                }
                Content::Leaf(_) => return at,
            }
        }
        at
    }

    fn get(&self, name: &str) -> Option<&Field> {
        match &self.content {
            Content::Map(fields) => fields.iter().find(|field| field.name == name),
            Content::Leaf(_) | Content::List(_) => None,
        }
    }
}

/// `a.b[0][key]` as `a`, `b`, `0`, `key`.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    let trim = |part| str::trim_matches(part, ['"', '\'']);
    path.split(['.', '[', ']']).map(trim).filter(|part| !part.is_empty())
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Content>::deserialize(deserializer)?;
        Ok(Self { at: spanned.referenced.into(), content: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Leaf(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Leaf(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Leaf(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Content, E> {
        Ok(Content::Leaf(Number::from_f64(value).map_or(Value::Null, Value::Number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Leaf(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Leaf(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Leaf(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        Content::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Content::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Content, A::Error> {
        let mut map = Vec::new();
        while let Some((name, value)) = fields.next_entry::<Spanned<String>, Node>()? {
            map.push(Field { name: name.value, at: name.referenced.into(), value });
        }
        Ok(Content::Map(map))
    }
}
