//! Kubernetes' JSONPath, as Argo's web metrics use it: `{$.data[0].ok}`.
//!
//! Fields, quoted fields, indexes also from the end, slices, `*`, `..`, unions and filters with one
//! comparison. Of several matches the first counts. Refused: text around the braces, `range`.

use serde_json::Value;

/// Values that one step may match; what comes after them is not looked at.
const MOST: usize = 10_000;

/// A path that was understood.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct JsonPath(Vec<Step>);

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    Slice(Option<i64>, Option<i64>, usize),
    All,
    Descend,
    Union(Vec<Step>),
    Filter { path: Vec<Step>, test: Option<(Operator, Value)> },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Longer ones first, so that `<=` is not read as `<`.
const OPERATORS: [(&str, Operator); 6] = [
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("<", Operator::Less),
    (">", Operator::Greater),
];

impl JsonPath {
    /// Reads a path, with or without braces.
    ///
    /// # Errors
    /// What was not understood.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let inner = match text.strip_prefix('{') {
            Some(inner) => inner
                .strip_suffix('}')
                .ok_or_else(|| format!("{text:?} does not end with a brace"))?,
            None => text,
        };
        if inner.contains(['{', '}']) {
            return Err(format!("{text:?}: write one path, as in {{$.data.ok}}"));
        }
        steps(inner.trim().trim_start_matches(['$', '@'])).map(Self)
    }

    /// The first match in `value`.
    pub(super) fn find<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        matches(&self.0, value).into_iter().next()
    }
}

fn steps(text: &str) -> Result<Vec<Step>, String> {
    let mut found = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(tail) = rest.strip_prefix("..") {
            found.push(Step::Descend);
            rest = tail;
            if rest.starts_with('[') {
                continue;
            }
        } else if rest.starts_with('[') {
            let end = closing(rest).ok_or_else(|| format!("{rest:?}: a bracket does not end"))?;
            let (inner, tail) = rest.split_at(end);
            found.push(bracket(inner.get(1..).unwrap_or_default())?);
            rest = tail.get(1..).unwrap_or_default();
            continue;
        } else {
            rest = rest.strip_prefix('.').unwrap_or(rest);
        }
        let (name, tail) = name(rest);
        rest = tail;
        match name.as_str() {
            "" if rest.is_empty() => {}
            "" => return Err(format!("{rest:?}: a field is missing")),
            "*" => found.push(Step::All),
            _ => found.push(Step::Field(name)),
        }
    }
    Ok(found)
}

/// A field's name up to the next dot or bracket; `\.` is a dot in it.
fn name(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' => return (name, text.get(at..).unwrap_or_default()),
            _ => name.push(c),
        }
    }
    (name, "")
}

/// Where the bracket that begins `text` ends.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0_u32, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(end), c) if c == end => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 1 => return Some(at),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn bracket(inner: &str) -> Result<Step, String> {
    let inner = inner.trim();
    if let Some(filter) = inner.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')')) {
        return self::filter(filter);
    }
    let parts = split(inner);
    if parts.len() > 1 {
        return parts.into_iter().map(bracket).collect::<Result<_, _>>().map(Step::Union);
    }
    if let Some(quoted) = quoted(inner) {
        return Ok(Step::Field(quoted));
    }
    if inner == "*" {
        return Ok(Step::All);
    }
    let number = |text: &str| -> Result<Option<i64>, String> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| format!("[{inner}]: write a number, 'a name' or *"))
    };
    let parts: Vec<&str> = inner.split(':').collect();
    match parts.as_slice() {
        [index] => number(index)?.map(Step::Index).ok_or_else(|| "[] is empty".to_owned()),
        [from, to] => Ok(Step::Slice(number(from)?, number(to)?, 1)),
        [from, to, step] => {
            let step = number(step)?.unwrap_or(1);
            let step = usize::try_from(step).ok().filter(|step| *step > 0);
            let step = step.ok_or_else(|| format!("[{inner}]: the step must be positive"))?;
            Ok(Step::Slice(number(from)?, number(to)?, step))
        }
        _ => Err(format!("[{inner}]: write [from:to:step]")),
    }
}

/// Splits at commas outside of quotes.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut from, mut quote) = (Vec::new(), 0, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(end), c) if c == end => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, ',') => {
                parts.extend(text.get(from..at));
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.extend(text.get(from..));
    parts
}

fn quoted(text: &str) -> Option<String> {
    let text = text.trim();
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text.strip_prefix(quote)?.strip_suffix(quote).map(str::to_owned)
}

fn filter(text: &str) -> Result<Step, String> {
    let text = text.trim();
    let path = |text: &str| {
        let text = text.trim();
        let rest = text.strip_prefix('@').ok_or_else(|| format!("?({text}): begin with @"))?;
        steps(rest)
    };
    let found = OPERATORS
        .iter()
        .filter_map(|(sign, operator)| Some((text.find(sign)?, *sign, *operator)))
        .min_by_key(|(at, sign, _)| (*at, std::cmp::Reverse(sign.len())));
    let Some((at, sign, operator)) = found else {
        return Ok(Step::Filter { path: path(text)?, test: None });
    };
    let (left, right) = text.split_at(at);
    let right = right.get(sign.len()..).unwrap_or_default().trim();
    let value = match quoted(right) {
        Some(text) => Value::String(text),
        None => serde_json::from_str(right)
            .map_err(|_| format!("?({text}): {right:?} is no number, 'text' or true"))?,
    };
    Ok(Step::Filter { path: path(left)?, test: Some((operator, value)) })
}

fn matches<'a>(steps: &[Step], value: &'a Value) -> Vec<&'a Value> {
    let mut found = vec![value];
    for step in steps {
        found = found.into_iter().flat_map(|value| take(step, value)).take(MOST).collect();
    }
    found
}

fn take<'a>(step: &Step, value: &'a Value) -> Vec<&'a Value> {
    let items = || match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(fields) => fields.values().collect::<Vec<_>>(),
        _ => Vec::new(),
    };
    match step {
        Step::Field(name) => value.get(name).into_iter().collect(),
        Step::All => items(),
        Step::Union(steps) => steps.iter().flat_map(|step| take(step, value)).collect(),
        Step::Descend => {
            let below = items().into_iter().flat_map(|item| take(&Step::Descend, item));
            std::iter::once(value).chain(below).collect()
        }
        Step::Index(at) => {
            let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
            list.get(place(*at, list.len())).into_iter().collect()
        }
        Step::Slice(from, to, step) => {
            let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
            let from = from.map_or(0, |at| place(at, list.len()));
            let to = to.map_or(list.len(), |at| place(at, list.len()));
            list.iter().take(to).skip(from).step_by(*step).collect()
        }
        Step::Filter { path, test } => {
            let good = |item: &&Value| {
                let found = matches(path, item).into_iter().next();
                match test {
                    None => found.is_some(),
                    Some((operator, wanted)) => {
                        found.is_some_and(|found| compare(found, *operator, wanted))
                    }
                }
            };
            items().into_iter().filter(good).collect()
        }
    }
}

/// A place from the end is negative; one before the beginning is none.
fn place(at: i64, length: usize) -> usize {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let at = if at < 0 { at.saturating_add(length) } else { at };
    usize::try_from(at).unwrap_or(usize::MAX)
}

fn compare(found: &Value, operator: Operator, wanted: &Value) -> bool {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let order = match (found, wanted) {
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().zip(b.as_f64()).and_then(|(a, b)| a.partial_cmp(&b))
        }
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (a, b) => (a == b).then_some(Equal),
    };
    match operator {
        Operator::Equal => order == Some(Equal),
        Operator::NotEqual => order != Some(Equal),
        Operator::Less => order == Some(Less),
        Operator::LessOrEqual => matches!(order, Some(Less | Equal)),
        Operator::Greater => order == Some(Greater),
        Operator::GreaterOrEqual => matches!(order, Some(Greater | Equal)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_finds_what_kubernetes_documentation_says() {
        let value = json!({
            "kind": "List",
            "items": [
                {"kind": "None", "metadata": {"name": "127.0.0.1", "labels": {"a.b/c": "x"}},
                 "status": {"capacity": {"cpu": "4"}, "n": 4}},
                {"kind": "None", "metadata": {"name": "127.0.0.2"}, "status": {"n": 8}},
            ],
            "users": [{"name": "myself", "user": {}}, {"name": "e2e", "user": {"password": "s"}}],
        });
        for (path, expected) in [
            ("{.kind}", json!("List")),
            ("{$.kind}", json!("List")),
            ("kind", json!("List")),
            ("{['kind']}", json!("List")),
            ("{.users[0].name}", json!("myself")),
            ("{.users[-1].name}", json!("e2e")),
            ("{.items[*].metadata.name}", json!("127.0.0.1")),
            ("{.items[1:].metadata.name}", json!("127.0.0.2")),
            ("{.items[0:2:2].status.n}", json!(4)),
            ("{.users[?(@.name==\"e2e\")].user.password}", json!("s")),
            ("{.items[?(@.status.n>4)].metadata.name}", json!("127.0.0.2")),
            ("{.users[?(@.user.password)].name}", json!("e2e")),
            ("{..password}", json!("s")),
            ("{.items[0].metadata.labels['a.b/c']}", json!("x")),
            ("{.items[0].metadata.labels.a\\.b/c}", json!("x")),
            ("{.items[0]['metadata', 'status'].n}", json!(4)),
            ("{.items[1].*.n}", json!(8)),
        ] {
            let found = JsonPath::parse(path).unwrap().find(&value).cloned();
            assert_eq!(found, Some(expected), "{path}");
        }
        assert_eq!(JsonPath::parse("{$}").unwrap().find(&value), Some(&value));
        for path in ["{.nothing}", "{.items[7]}", "{.items[-7]}", "{.kind.deeper}", "{.kind[0]}"] {
            assert_eq!(JsonPath::parse(path).unwrap().find(&value), None, "{path}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for path in
            ["{.a", "{.a[0}", "{range .a[*]}{.b}{end}", "{.a[x]}", "{.a[?(b==1)]}", "{.a[]}"]
        {
            assert!(JsonPath::parse(path).is_err(), "{path}");
        }
    }
}
