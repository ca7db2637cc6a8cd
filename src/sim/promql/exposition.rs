//! The Prometheus text exposition format, as a scraper reads it.

use super::labels::Labels;

/// One exposed sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Exposed {
    /// Name and labels.
    pub labels: Labels,
    /// The value.
    pub value: f64,
    /// The sample's own time in Unix milliseconds, where the page gives one.
    pub at_ms: Option<i64>,
}

/// A line that is not in the format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("metrics page, line {line}: {problem}: {text:?}")]
pub struct ExpositionError {
    /// 1-based line number.
    pub line: usize,
    /// What was expected there.
    pub problem: &'static str,
    /// The line.
    pub text: String,
}

/// Reads a page in the text format. Comments (`# TYPE`, `# HELP`) carry no samples.
pub fn parse_exposition(page: &str) -> Result<Vec<Exposed>, ExpositionError> {
    let mut samples = Vec::new();
    for (i, line) in page.lines().enumerate() {
        let text = line.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let sample = parse_line(text).map_err(|problem| ExpositionError {
            line: i + 1,
            problem,
            text: text.to_owned(),
        })?;
        samples.push(sample);
    }
    Ok(samples)
}

fn parse_line(text: &str) -> Result<Exposed, &'static str> {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        .ok_or("a value is missing")?;
    let (name, rest) = text.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("a metric name is expected");
    }
    let (pairs, rest) = match rest.trim_start().strip_prefix('{') {
        Some(inside) => parse_labels(inside)?,
        None => (Vec::new(), rest),
    };
    let mut fields = rest.split_whitespace();
    let value = fields.next().and_then(parse_value).ok_or("a number is expected as the value")?;
    let at_ms = match fields.next() {
        Some(time) => Some(time.parse().map_err(|_| "a time in milliseconds is expected")?),
        None => None,
    };
    if fields.next().is_some_and(|field| field != "#") {
        return Err("nothing is expected after the time");
    }
    Ok(Exposed { labels: Labels::new(name, pairs), value, at_ms })
}

fn parse_value(text: &str) -> Option<f64> {
    match text {
        "+Inf" | "Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        other => other.parse().ok(),
    }
}

type Pairs = Vec<(String, String)>;

/// `rest` starts after the opening brace; returns the pairs and what follows the closing one.
fn parse_labels(mut rest: &str) -> Result<(Pairs, &str), &'static str> {
    let mut pairs = Vec::new();
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((pairs, after));
        }
        let (name, after) = rest.split_once('=').ok_or("`label=\"value\"` or `}` is expected")?;
        let quoted = after.trim_start().strip_prefix('"').ok_or("a quoted value is expected")?;
        let (value, after) = parse_quoted(quoted)?;
        pairs.push((name.trim().to_owned(), value));
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None if rest.starts_with('}') => {}
            None => return Err("`,` or `}` is expected after a label"),
        }
    }
}

fn parse_quoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return Ok((value, text.get(i + 1..).unwrap_or_default())),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped @ ('\\' | '"'))) => value.push(escaped),
                Some((_, other)) => value.extend(['\\', other]),
                None => break,
            },
            other => value.push(other),
        }
    }
    Err("a label value is not closed")
}
