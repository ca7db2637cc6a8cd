//! Arguments: `{{args.x}}` replaced as plain text, as Argo does it, in every text of a metric.
//!
//! One pass: a value that itself holds `{{...}}` is not replaced again. There is no way to write a
//! literal `{{`, as in Argo. Refused: unknown tags, arguments without a value, a `{{` without end.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::api::Metric;
use crate::api::analysis::TemplateArg;

/// Why a text cannot be completed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgError {
    /// The tag names nothing.
    #[error("failed to resolve {{{{{0}}}}}: declare it under args, or correct the name")]
    Unresolved(String),
    /// The argument has no value.
    #[error("argument {0:?} was not supplied: give it a value in the Rollout's analysis args")]
    NotSupplied(String),
    /// The tag does not end.
    #[error("cannot find end tag \"}}}}\" in {0:?}")]
    NoEnd(String),
    /// The metric does not fit its type after the replacement.
    #[error("after the arguments were filled in: {0}")]
    Shape(String),
}

/// Values by argument name.
pub type Args = BTreeMap<String, String>;

/// The values of `args`.
///
/// # Errors
/// When one of them has none, used or not.
pub fn values(args: &[TemplateArg]) -> Result<Args, ArgError> {
    args.iter()
        .map(|arg| match &arg.value {
            Some(value) => Ok((arg.name.clone(), value.clone())),
            None => Err(ArgError::NotSupplied(arg.name.clone())),
        })
        .collect()
}

/// Replaces every `{{args.x}}` in `text`.
///
/// # Errors
/// When a tag is unknown or does not end.
pub fn substitute(text: &str, args: &Args) -> Result<String, ArgError> {
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (tag, tail) = after.split_once("}}").ok_or_else(|| ArgError::NoEnd(rest.to_owned()))?;
        let name = tag.trim().strip_prefix("args.");
        let value = name.and_then(|name| args.get(name));
        done.push_str(before);
        done.push_str(value.ok_or_else(|| ArgError::Unresolved(tag.to_owned()))?);
        rest = tail;
    }
    done.push_str(rest);
    Ok(done)
}

/// The metric with every text in it completed, its name included.
///
/// # Errors
/// When a text cannot be completed.
pub fn complete(metric: &Metric, args: &Args) -> Result<Metric, ArgError> {
    let shape = |e: serde_json::Error| ArgError::Shape(e.to_string());
    let mut value = serde_json::to_value(metric).map_err(shape)?;
    walk(&mut value, args)?;
    serde_json::from_value(value).map_err(shape)
}

fn walk(value: &mut Value, args: &Args) -> Result<(), ArgError> {
    match value {
        Value::String(text) => *text = substitute(text, args)?,
        Value::Array(items) => items.iter_mut().try_for_each(|item| walk(item, args))?,
        Value::Object(fields) => fields.values_mut().try_for_each(|field| walk(field, args))?,
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Ok(())
}

/// The names that `text` mentions, resolved or not.
#[must_use]
pub fn mentioned(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("{{") {
        let Some((tag, tail)) = after.split_once("}}") else { break };
        names.push(tag.trim());
        rest = tail;
    }
    names
}
