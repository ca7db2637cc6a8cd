//! Arguments: `{{args.x}}` replaced as plain text, as Argo does it, in every text of a metric, the
//! keys of its maps included.
//!
//! One pass: a value that itself holds `{{...}}` is not replaced again. A literal `{{` is written as
//! a quoted text inside of braces, as in Go templates: `{{ "{{pod}}" }}` gives `{{pod}}` (Argo has no
//! way to write it). Values of Secrets never reach a message: [`Secrets::mask`]. Refused: unknown
//! tags, arguments without a value, a `{{` without end.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::api::analysis::TemplateArg;
use crate::api::common::SecretKeyRef;

/// What stands for a secret wherever it could be read.
pub const MASK: &str = "*****";

/// Why a text cannot be completed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgError {
    /// The tag names nothing.
    #[error("failed to resolve {{{{{0}}}}}: declare it under args, or correct the name")]
    Unresolved(String),
    /// The argument has no value.
    #[error("argument {0:?} was not supplied: give it a value in the Rollout's analysis args")]
    NotSupplied(String),
    /// The argument is a field of a Rollout that is not known here.
    #[error(
        "argument {0:?} was not supplied: valueFrom.fieldRef is read when a Rollout starts the \
         run; write a value"
    )]
    NoField(String),
    /// The Secret has not been read.
    #[error("argument {arg:?}: key {key:?} of Secret {name:?} is missing: create it")]
    NoSecret {
        /// The argument.
        arg: String,
        /// The Secret.
        name: String,
        /// The key.
        key: String,
    },
    /// The tag does not end.
    #[error("cannot find end tag \"}}}}\" in {0:?}")]
    NoEnd(String),
    /// The metric does not fit its type after the replacement.
    #[error("after the arguments were filled in: {0}")]
    Shape(String),
}

/// Values by argument name.
pub type Args = BTreeMap<String, String>;

/// Values of keys of Secrets in the run's namespace.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets(BTreeMap<(String, String), String>);

/// Names only: the values are secret.
impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Secrets {
    /// Adds the value of a key.
    pub fn insert(&mut self, at: &SecretKeyRef, value: String) {
        self.0.insert((at.name.clone(), at.key.clone()), value);
    }

    fn get(&self, at: &SecretKeyRef) -> Option<&String> {
        self.0.get(&(at.name.clone(), at.key.clone()))
    }

    /// The text without the values: as they are, as a quoted text or an address shows them, and where a
    /// server's words were cut in one.
    #[must_use]
    pub fn mask(&self, mut text: String) -> String {
        let mut values: Vec<&str> =
            self.0.values().map(String::as_str).filter(|value| !value.is_empty()).collect();
        // One may be the beginning of another.
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        for value in values {
            text = text.replace(value, MASK);
            for quoted in [format!("{value:?}"), Value::from(value).to_string()] {
                let inside = quoted.get(1..quoted.len() - 1).unwrap_or_default();
                text = text.replace(inside, MASK);
            }
            text = without_cut(&without_encoded(&text, value.as_bytes()), value);
        }
        text
    }

    /// Values that fit most places, for checks before a Secret is read.
    fn stand_in(args: &[TemplateArg], value: &str) -> Self {
        let mut secrets = Self::default();
        for at in args.iter().filter_map(secret_of) {
            secrets.insert(at, value.to_owned());
        }
        secrets
    }
}

/// Beginnings of a secret that are shorter may stand in any text.
const SECRET_BEGINNING: usize = 4;

/// Without `value` where some of its bytes are percent-encoded, or its spaces are `+`.
fn without_encoded(text: &str, value: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        match encoded(rest.as_bytes(), value).and_then(|length| rest.get(length..)) {
            Some(after) => {
                out.push_str(MASK);
                rest = after;
            }
            None => {
                out.push(first);
                rest = rest.get(first.len_utf8()..).unwrap_or_default();
            }
        }
    }
    out
}

/// How many bytes of `text` stand for `value`, if it begins with it.
fn encoded(text: &[u8], value: &[u8]) -> Option<usize> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut rest = text;
    for byte in value {
        rest = match rest {
            [b'%', high, low, after @ ..]
                if (digit(*high), digit(*low))
                    == (Some(u32::from(byte >> 4)), Some(u32::from(byte & 15))) =>
            {
                after
            }
            [first, after @ ..] if first == byte || (*first == b'+' && *byte == b' ') => after,
            _ => return None,
        };
    }
    Some(text.len() - rest.len())
}

/// Without the beginning of `value` where the text was cut in it.
fn without_cut(text: &str, value: &str) -> String {
    const CUT: &str = "...";
    let mut pieces: Vec<String> = text.split(CUT).map(str::to_owned).collect();
    let cut = pieces.len().saturating_sub(1);
    for piece in pieces.iter_mut().take(cut) {
        let ends = value.char_indices().map(|(end, _)| end).rev();
        let mut beginnings =
            ends.filter(|end| *end >= SECRET_BEGINNING).filter_map(|end| value.get(..end));
        if let Some(kept) = beginnings.find_map(|beginning| piece.strip_suffix(beginning)) {
            *piece = format!("{kept}{MASK}");
        }
    }
    pieces.join(CUT)
}

/// The Secret that an argument is read from.
#[must_use]
pub fn secret_of(arg: &TemplateArg) -> Option<&SecretKeyRef> {
    arg.value_from.as_ref()?.secret_key_ref.as_ref()
}

/// Secrets as they might be, one set after the other: a number, a truth, a span, a name.
#[must_use]
pub fn stand_ins(args: &[TemplateArg]) -> Vec<Secrets> {
    if args.iter().all(|arg| secret_of(arg).is_none()) {
        return vec![Secrets::default()];
    }
    ["1", "true", "5m", "temp-for-secret"].map(|value| Secrets::stand_in(args, value)).to_vec()
}

/// The values of `args`.
///
/// # Errors
/// When one of them has none, used or not, as in Argo.
pub fn values(args: &[TemplateArg], secrets: &Secrets) -> Result<Args, ArgError> {
    args.iter().map(|arg| Ok((arg.name.clone(), value(arg, secrets)?))).collect()
}

/// The same with [`MASK`] for every secret: what may be shown.
///
/// # Errors
/// As [`values`].
pub fn shown(args: &[TemplateArg], secrets: &Secrets) -> Result<Args, ArgError> {
    let masked = |arg: &TemplateArg| secret_of(arg).map(|_| MASK.to_owned());
    args.iter()
        .map(|arg| Ok((arg.name.clone(), masked(arg).map_or_else(|| value(arg, secrets), Ok)?)))
        .collect()
}

fn value(arg: &TemplateArg, secrets: &Secrets) -> Result<String, ArgError> {
    if let Some(value) = &arg.value {
        return Ok(value.clone());
    }
    if let Some(at) = secret_of(arg) {
        return secrets.get(at).cloned().ok_or_else(|| ArgError::NoSecret {
            arg: arg.name.clone(),
            name: at.name.clone(),
            key: at.key.clone(),
        });
    }
    match arg.value_from.as_ref().and_then(|from| from.field_ref.as_ref()) {
        Some(_) => Err(ArgError::NoField(arg.name.clone())),
        None => Err(ArgError::NotSupplied(arg.name.clone())),
    }
}

/// A piece of a text.
enum Piece<'a> {
    Plain(&'a str),
    Tag(&'a str),
}

/// Splits a text at its tags. A tag that is a quoted text is that text.
fn pieces(text: &str) -> Result<Vec<Piece<'_>>, ArgError> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        found.push(Piece::Plain(before));
        if let Some((literal, tail)) = literal(after) {
            found.push(Piece::Plain(literal));
            rest = tail;
            continue;
        }
        let (tag, tail) = after.split_once("}}").ok_or_else(|| ArgError::NoEnd(rest.to_owned()))?;
        found.push(Piece::Tag(tag));
        rest = tail;
    }
    found.push(Piece::Plain(rest));
    Ok(found)
}

/// `"..." }}` or `'...' }}`: the text between the quotes, and what follows.
fn literal(after: &str) -> Option<(&str, &str)> {
    let after = after.trim_start();
    let quote = after.chars().next().filter(|c| matches!(c, '"' | '\'' | '`'))?;
    let (literal, tail) = after.strip_prefix(quote)?.split_once(quote)?;
    Some((literal, tail.trim_start().strip_prefix("}}")?))
}

/// Replaces every `{{args.x}}` in `text`.
///
/// # Errors
/// When a tag is unknown or does not end.
pub fn substitute(text: &str, args: &Args) -> Result<String, ArgError> {
    let mut done = String::with_capacity(text.len());
    for piece in pieces(text)? {
        match piece {
            Piece::Plain(plain) => done.push_str(plain),
            Piece::Tag(tag) => {
                let value = name_of(tag).and_then(|name| args.get(name));
                done.push_str(value.ok_or_else(|| ArgError::Unresolved(tag.to_owned()))?);
            }
        }
    }
    Ok(done)
}

/// The argument that a tag names.
#[must_use]
pub fn name_of(tag: &str) -> Option<&str> {
    tag.trim().strip_prefix("args.")
}

/// A metric, or another part of a run, with every text in it completed, its name included.
///
/// # Errors
/// When a text cannot be completed.
pub fn complete<T: Serialize + DeserializeOwned>(part: &T, args: &Args) -> Result<T, ArgError> {
    let shape = |e: serde_json::Error| ArgError::Shape(e.to_string());
    let value = serde_json::to_value(part).map_err(shape)?;
    serde_json::from_value(walk(value, args)?).map_err(shape)
}

fn walk(value: Value, args: &Args) -> Result<Value, ArgError> {
    Ok(match value {
        Value::String(text) => Value::String(substitute(&text, args)?),
        Value::Array(items) => {
            Value::Array(items.into_iter().map(|item| walk(item, args)).collect::<Result<_, _>>()?)
        }
        Value::Object(fields) => {
            let field = |(key, field): (String, Value)| {
                Ok::<_, ArgError>((substitute(&key, args)?, walk(field, args)?))
            };
            Value::Object(fields.into_iter().map(field).collect::<Result<Map<_, _>, _>>()?)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    })
}

/// The tags in `text`, resolved or not.
///
/// # Errors
/// When one does not end.
pub fn tags(text: &str) -> Result<Vec<&str>, ArgError> {
    let tag = |piece| match piece {
        Piece::Tag(tag) => Some(tag),
        Piece::Plain(_) => None,
    };
    Ok(pieces(text)?.into_iter().filter_map(tag).collect())
}
