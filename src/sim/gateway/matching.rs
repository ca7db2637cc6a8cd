//! One HTTPRoute match, compiled: path, method, headers and query parameters.

use std::cmp::Reverse;

use regex::Regex;
use serde_json::Value;

/// The parts of a request that routing looks at.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The Host header, with or without a port.
    pub host: &'a str,
    /// The method, in capitals.
    pub method: &'a str,
    /// The path without the query string.
    pub path: &'a str,
    /// The query string without its question mark; empty if there is none.
    pub query: &'a str,
    /// All headers in order; names in any case, cookies as one `Cookie` header.
    pub headers: &'a [(String, String)],
}

#[derive(Debug, Clone)]
enum Text {
    Exact(String),
    Regex(Regex),
}

impl Text {
    /// `Exact` unless `type` says `RegularExpression`; a pattern covers the whole value.
    fn parse(matcher: &Value) -> Result<Self, String> {
        let value = matcher["value"].as_str().unwrap_or_default();
        match matcher["type"].as_str().unwrap_or("Exact") {
            "Exact" => Ok(Self::Exact(value.to_owned())),
            "RegularExpression" => whole(value).map(Self::Regex),
            other => Err(format!("match type {other:?} is not supported")),
        }
    }

    fn matches(&self, value: &str) -> bool {
        match self {
            Self::Exact(wanted) => wanted == value,
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

fn whole(pattern: &str) -> Result<Regex, String> {
    Regex::new(&format!("^(?:{pattern})$"))
        .map_err(|_| format!("{pattern:?} is not a regular expression"))
}

#[derive(Debug, Clone)]
enum PathMatch {
    Exact(String),
    Prefix(String),
    Regex(Regex),
}

impl PathMatch {
    fn parse(path: &Value) -> Result<Self, String> {
        let value = path["value"].as_str().unwrap_or("/");
        match path["type"].as_str().unwrap_or("PathPrefix") {
            "Exact" => Ok(Self::Exact(value.to_owned())),
            "PathPrefix" => Ok(Self::Prefix(value.trim_end_matches('/').to_owned())),
            "RegularExpression" => whole(value).map(Self::Regex),
            other => Err(format!("path match type {other:?} is not supported")),
        }
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(wanted) => wanted == path,
            // Whole elements: `/shop` covers `/shop/cart` but not `/shopping`.
            Self::Prefix(prefix) => path
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            Self::Regex(regex) => regex.is_match(path),
        }
    }

    fn is_exact(&self) -> bool {
        matches!(self, Self::Exact(_))
    }

    fn length(&self) -> usize {
        match self {
            Self::Exact(text) | Self::Prefix(text) => text.len(),
            Self::Regex(regex) => regex.as_str().len(),
        }
    }
}

/// One entry of a rule's `matches`.
#[derive(Debug, Clone)]
pub(super) struct Match {
    path: PathMatch,
    method: Option<String>,
    headers: Vec<(String, Text)>,
    query: Vec<(String, Text)>,
}

/// Sorts matches by the Gateway API's rules; smaller wins. The specification leaves the place of
/// regular expressions open; here they rank with prefixes, by their length.
pub(super) type Specificity =
    (Reverse<bool>, Reverse<usize>, Reverse<bool>, Reverse<usize>, Reverse<usize>);

impl Match {
    pub(super) fn parse(entry: &Value) -> Result<Self, String> {
        Ok(Self {
            path: PathMatch::parse(&entry["path"])?,
            method: entry["method"].as_str().map(str::to_owned),
            headers: named(&entry["headers"], str::to_ascii_lowercase)?,
            query: named(&entry["queryParams"], str::to_owned)?,
        })
    }

    pub(super) fn specificity(&self) -> Specificity {
        (
            Reverse(self.path.is_exact()),
            Reverse(self.path.length()),
            Reverse(self.method.is_some()),
            Reverse(self.headers.len()),
            Reverse(self.query.len()),
        )
    }

    pub(super) fn matches(&self, request: &Request<'_>) -> bool {
        self.path.matches(request.path)
            && self.method.as_deref().is_none_or(|method| method == request.method)
            && self.headers.iter().all(|(name, text)| {
                header(request.headers, name).is_some_and(|value| text.matches(&value))
            })
            && self.query.iter().all(|(name, text)| {
                let parameters = crate::sim::promql::api::form(request.query.as_bytes());
                parameters.iter().find(|(n, _)| n == name).is_some_and(|(_, v)| text.matches(v))
            })
    }
}

/// Named matchers; of several with one name only the first counts, as the specification says.
fn named(entries: &Value, spelled: fn(&str) -> String) -> Result<Vec<(String, Text)>, String> {
    let mut matchers: Vec<(String, Text)> = Vec::new();
    for entry in entries.as_array().into_iter().flatten() {
        let name = spelled(entry["name"].as_str().unwrap_or_default());
        if matchers.iter().all(|(known, _)| *known != name) {
            matchers.push((name, Text::parse(entry)?));
        }
    }
    Ok(matchers)
}

/// A header's value; several lines are one list, cookies joined as a browser would.
fn header(headers: &[(String, String)], name: &str) -> Option<String> {
    let values: Vec<&str> = headers
        .iter()
        .filter(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, v)| v.as_str())
        .collect();
    let separator = if name == "cookie" { "; " } else { "," };
    (!values.is_empty()).then(|| values.join(separator))
}

/// Whether a hostname pattern (`*` stands for one or more leading labels) covers `host`.
pub(super) fn covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => pattern == host,
    }
}

/// The host in lower case without its port.
pub(super) fn bare_host(host: &str) -> String {
    let bare = match host.rsplit_once(':') {
        Some((bare, port)) if port.chars().all(|c| c.is_ascii_digit()) => bare,
        _ => host,
    };
    bare.to_ascii_lowercase()
}
