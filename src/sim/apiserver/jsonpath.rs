//! The part of Kubernetes' JSONPath that printer columns use: fields, indices, `[*]` and filters
//! that compare one field with one text.

use serde_json::Value;

/// The values that a path such as `.status.conditions[?(@.type=="Ready")].status` finds.
#[must_use]
pub fn find<'a>(object: &'a Value, path: &str) -> Vec<&'a Value> {
    let path = path.trim().trim_start_matches('{').trim_end_matches('}').trim_start_matches('$');
    let mut found = vec![object];
    let mut rest = path;
    while !rest.is_empty() {
        let (step, after) = step(rest);
        found = found.into_iter().flat_map(|value| take(value, &step)).collect();
        rest = after;
    }
    found
}

enum Step {
    Field(String),
    Index(i64),
    All,
    Filter(String, String),
}

/// The first step of a path, and what follows it.
fn step(path: &str) -> (Step, &str) {
    if let Some(inner) = path.strip_prefix('[') {
        let end = closing(inner);
        let (text, after) = inner.split_at_checked(end).unwrap_or((inner, ""));
        return (bracket(text), after.strip_prefix(']').unwrap_or_default());
    }
    let path = path.strip_prefix('.').unwrap_or(path);
    let mut name = String::new();
    let mut letters = path.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => name.extend(letters.next().map(|(_, next)| next)),
            '.' | '[' => return (Step::Field(name), path.get(at..).unwrap_or_default()),
            other => name.push(other),
        }
    }
    (Step::Field(name), "")
}

/// Where the bracket that was just opened closes; quoted ones do not count.
fn closing(text: &str) -> usize {
    let mut quote = None;
    for (at, letter) in text.char_indices() {
        match (quote, letter) {
            (None, ']') => return at,
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), letter) if open == letter => quote = None,
            _ => {}
        }
    }
    text.len()
}

fn bracket(text: &str) -> Step {
    let unquoted = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
    let filter = text.strip_prefix("?(").and_then(|inner| inner.strip_suffix(')'));
    if let Some((left, right)) = filter.and_then(|inner| inner.split_once("==")) {
        let field = left.trim().trim_start_matches("@.").to_owned();
        return Step::Filter(field, unquoted(right));
    }
    match text.trim() {
        "*" => Step::All,
        text => text.parse().map_or_else(|_| Step::Field(unquoted(text)), Step::Index),
    }
}

fn take<'a>(value: &'a Value, step: &Step) -> Vec<&'a Value> {
    let items = value.as_array();
    match step {
        Step::Field(name) if name.is_empty() => vec![value],
        Step::Field(name) => value.get(name).into_iter().collect(),
        Step::Index(index) => {
            let length = items.map_or(0, Vec::len);
            let from_end = usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX);
            let index = if *index < 0 { length.checked_sub(from_end) } else { Some(from_end) };
            index.and_then(|index| items?.get(index)).into_iter().collect()
        }
        Step::All => match value {
            Value::Object(fields) => fields.values().collect(),
            _ => items.into_iter().flatten().collect(),
        },
        Step::Filter(path, wanted) => {
            let holds = |item: &&Value| {
                find(item, path).first().is_some_and(|found| match found {
                    Value::String(text) => text == wanted,
                    other => other.to_string() == *wanted,
                })
            };
            items.into_iter().flatten().filter(holds).collect()
        }
    }
}
