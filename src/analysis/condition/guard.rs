//! Bounds a condition before it is parsed: the parser backtracks at every `[` and recurses at every
//! bracket, and the evaluator has no step budget.

use std::collections::BTreeSet;

use super::ConditionError;

/// The longest condition, in bytes.
pub const MAX_LENGTH: usize = 4_096;

/// The deepest nesting of brackets: the parser tries each `[` twice, so 12 levels are 4,096 tries.
const MAX_DEPTH: usize = 12;

/// How often `?` may appear: each one nests.
const MAX_CHOICES: usize = 32;

/// The deepest nesting of functions that visit every value: two are 1,000 squared visits.
const MAX_LOOPS: usize = 2;

const LOOPS: [&str; 17] = [
    "all",
    "any",
    "count",
    "filter",
    "find",
    "findIndex",
    "findLast",
    "findLastIndex",
    "flatten",
    "groupBy",
    "map",
    "none",
    "one",
    "reduce",
    "sort",
    "sortBy",
    "sum",
];

/// Checks the bounds and returns the names that are called.
pub(super) fn check(text: &str) -> Result<BTreeSet<String>, ConditionError> {
    if text.len() > MAX_LENGTH {
        return Err(ConditionError::TooLong(text.len()));
    }
    let mut scan = Scan::default();
    let mut chars = text.chars().peekable();
    let mut quote = None;
    while let Some(c) = chars.next() {
        if let Some(end) = quote {
            if c == '\\' && end != '`' {
                chars.next();
            } else if c == end {
                quote = None;
            }
            continue;
        }
        match c {
            '"' | '\'' | '`' => quote = Some(c),
            '.' if chars.peek() == Some(&'.') => {
                return Err(ConditionError::Unbounded(
                    "ranges (`..`) are not allowed in conditions",
                ));
            }
            _ => scan.step(c)?,
        }
    }
    Ok(scan.calls)
}

#[derive(Default)]
struct Scan {
    calls: BTreeSet<String>,
    /// One entry per open bracket: whether it belongs to a function that visits every value.
    open: Vec<bool>,
    /// The last word, and whether white space follows it.
    word: String,
    gap: bool,
    choices: usize,
}

impl Scan {
    fn step(&mut self, c: char) -> Result<(), ConditionError> {
        if c.is_alphanumeric() || c == '_' || c == '$' {
            if self.gap {
                self.word.clear();
            }
            self.gap = false;
            self.word.push(c);
            return Ok(());
        }
        match c {
            '(' | '[' | '{' => {
                let loops = c == '(' && LOOPS.contains(&self.word.as_str());
                if c == '(' && !self.word.is_empty() {
                    self.calls.insert(self.word.clone());
                }
                self.open.push(loops);
                if self.open.len() > MAX_DEPTH {
                    return Err(ConditionError::Unbounded("brackets are nested deeper than 12"));
                }
                if self.open.iter().filter(|loops| **loops).count() > MAX_LOOPS {
                    return Err(ConditionError::Unbounded(
                        "functions over all values (all, any, map...) are nested deeper than 2",
                    ));
                }
            }
            ')' | ']' | '}' => {
                self.open.pop();
            }
            '?' => {
                self.choices += 1;
                if self.choices > MAX_CHOICES {
                    return Err(ConditionError::Unbounded("more than 32 `?` in one condition"));
                }
            }
            _ if c.is_whitespace() => {
                self.gap = true;
                return Ok(());
            }
            _ => {}
        }
        self.word.clear();
        self.gap = false;
        Ok(())
    }
}
