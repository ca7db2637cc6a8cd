//! What a condition could cost, before it runs: the evaluator has no budget of steps or memory.
//!
//! Sizes are counted in powers of the number of values of `result`. Refused: visiting every value
//! more than twice nested, and texts or lists that a condition makes larger than its answer.

use std::collections::BTreeSet;

use super::ConditionError;
use super::syntax::{Node, OVER_ALL};

/// The highest power: 1,000 values squared are a million visits.
const MAX_POWER: u32 = 2;

/// How many times its answer a condition may build.
const MAX_COPIES: u64 = 1_000;

/// What of a value is known: the power of its size, and how many copies of the answer are in it.
#[derive(Debug, Clone, Copy)]
struct Size {
    power: u32,
    copies: u64,
}

const ONE: Size = Size { power: 0, copies: 1 };

/// Bounds the cost and collects the functions that are called.
///
/// # Errors
/// When it is unbounded.
pub(super) fn bound(node: &Node) -> Result<Facts, ConditionError> {
    let mut count = Count { names: Vec::new(), facts: Facts::default() };
    count.node(node)?;
    Ok(count.facts)
}

/// What a condition does.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// The functions that it calls.
    pub(super) calls: BTreeSet<String>,
    /// It looks at `result`.
    pub(super) looks: bool,
    /// It says what `result` is when it is nil.
    pub(super) nil: bool,
    /// It visits every value for every value.
    pub(super) squared: bool,
}

struct Count {
    names: Vec<(String, Size)>,
    facts: Facts,
}

/// The power of the time and the size of the value.
type Counted = Result<(u32, Size), ConditionError>;

impl Count {
    fn node(&mut self, node: &Node) -> Counted {
        self.facts.nil |= minds_nil(node);
        let (time, size) = match node {
            Node::Nil | Node::Bool(_) | Node::Int(_) | Node::Float(_) | Node::Text(_) => (0, ONE),
            Node::Name(name) => self.name(name),
            Node::Array(items) => self.sum(items.iter())?,
            Node::Map(entries) => self.sum(entries.iter().map(|(_, value)| value))?,
            Node::Unary(_, of) | Node::Closure(of) => self.node(of)?,
            Node::Binary("+" | "??", left, right) => self.sum([&**left, &**right].into_iter())?,
            Node::Binary(_, left, right) => {
                let (time, _) = self.sum([&**left, &**right].into_iter())?;
                (time, ONE)
            }
            Node::Choice(condition, yes, no) => {
                self.sum([&**condition, &**yes, &**no].into_iter())?
            }
            Node::Member(of, at, _) => {
                self.node(at)?;
                self.node(of)?
            }
            Node::Slice(of, from, to) => {
                let ends = [from, to].into_iter().flatten().map(|end| &**end);
                self.sum(std::iter::once(&**of).chain(ends))?
            }
            Node::Call(name, args) => self.call(name, args)?,
            Node::Method(of, _, args) => self.sum(std::iter::once(&**of).chain(args))?,
            Node::Let(name, value, body) => {
                let (time, size) = self.node(value)?;
                self.names.push((name.clone(), size));
                let (then, size) = self.node(body)?;
                self.names.pop();
                (time.max(then), size)
            }
        };
        self.facts.squared |= time > 1;
        if time > MAX_POWER || size.power > MAX_POWER {
            return Err(ConditionError::Unbounded(
                "functions over all values (all, any, map...) are nested deeper than 2",
            ));
        }
        if size.copies > MAX_COPIES {
            return Err(ConditionError::Unbounded(
                "the condition builds more than a thousand copies of its answer",
            ));
        }
        Ok((time, size))
    }

    fn name(&mut self, name: &str) -> (u32, Size) {
        if let Some((_, size)) = self.names.iter().rev().find(|(known, _)| known == name) {
            return (size.power, *size);
        }
        self.facts.looks |= matches!(name, "result" | "$env");
        match name {
            // The elements together are as large as the answer: one of them counts as one.
            "#" | "#index" | "#acc" => (0, ONE),
            _ => (1, Size { power: 1, copies: 1 }),
        }
    }

    /// Several parts side by side.
    fn sum<'n>(&mut self, parts: impl Iterator<Item = &'n Node>) -> Counted {
        let (mut time, mut size) = (0, Size { power: 0, copies: 0 });
        for part in parts {
            let (own, part) = self.node(part)?;
            time = time.max(own);
            size.power = size.power.max(part.power);
            size.copies = size.copies.saturating_add(part.copies);
        }
        size.copies = size.copies.max(1);
        Ok((time, size))
    }

    fn call(&mut self, name: &str, args: &[Node]) -> Counted {
        self.facts.calls.insert(name.to_owned());
        if matches!(name, "repeat" | "replace") {
            return Err(ConditionError::Unbounded(
                "repeat and replace are not allowed in conditions: they make texts of any length",
            ));
        }
        if let (true, Some((values, rest))) = (OVER_ALL.contains(&name), args.split_first()) {
            if name == "reduce" && rest.first().is_some_and(|closure| accumulates(closure) > 1) {
                return Err(ConditionError::Unbounded(
                    "reduce may take #acc into its value once: else it doubles with every value",
                ));
            }
            let (time, size) = self.node(values)?;
            let (each, made) = self.sum(rest.iter())?;
            let visits = time.max(size.power + each);
            let keeps = matches!(name, "map" | "reduce" | "groupBy" | "sortBy" | "filter");
            let made = Size {
                power: size.power + made.power,
                copies: size.copies.saturating_mul(made.copies),
            };
            return Ok((visits, if keeps { made } else { Size { power: 0, ..made } }));
        }
        let (time, size) = self.sum(args.iter())?;
        let more = |times: u64| Size { copies: size.copies.saturating_mul(times), ..size };
        Ok(match name {
            // A text has more letters than the answer has values.
            "split" | "splitAfter" | "fromJSON" => {
                (time.max(1), Size { power: size.power + 1, ..size })
            }
            // A separator is at most as long as the condition.
            "join" => (time, more(64)),
            "toJSON" => (time, more(6)),
            "string" | "toBase64" => (time, more(2)),
            "concat" | "take" | "first" | "last" | "sort" | "uniq" | "reverse" | "flatten"
            | "keys" | "values" | "toPairs" | "fromPairs" | "default" | "get" | "lower"
            | "upper" | "trim" | "trimPrefix" | "trimSuffix" | "fromBase64" => (time, size),
            _ => (time, ONE),
        })
    }
}

/// Whether it compares `result` with nil, or names what stands in for it.
fn minds_nil(node: &Node) -> bool {
    match node {
        Node::Binary("==" | "!=", left, right) => match (&**left, &**right) {
            (Node::Nil, of) | (of, Node::Nil) => is_result(of),
            _ => false,
        },
        Node::Binary("??", left, _) => is_result(left),
        _ => false,
    }
}

/// `result`, or a part of it that is nil where it is: `result?.errors`.
fn is_result(node: &Node) -> bool {
    match node {
        Node::Name(name) => name == "result",
        Node::Member(of, _, optional) => *optional && is_result(of),
        _ => false,
    }
}

/// How often `#acc` goes into the value of a closure.
fn accumulates(node: &Node) -> usize {
    match node {
        Node::Name(name) => usize::from(name == "#acc"),
        Node::Nil | Node::Bool(_) | Node::Int(_) | Node::Float(_) | Node::Text(_) => 0,
        Node::Binary("==" | "!=" | "<" | ">" | "<=" | ">=" | "and" | "or" | "in", ..) => 0,
        Node::Unary(_, of) | Node::Closure(of) | Node::Slice(of, ..) | Node::Member(of, ..) => {
            accumulates(of)
        }
        Node::Binary(_, left, right) => accumulates(left) + accumulates(right),
        Node::Choice(_, yes, no) => accumulates(yes).max(accumulates(no)),
        Node::Array(items) | Node::Call(_, items) => items.iter().map(accumulates).sum(),
        Node::Map(entries) => entries.iter().map(|(_, value)| accumulates(value)).sum(),
        Node::Method(of, _, args) => accumulates(of) + args.iter().map(accumulates).sum::<usize>(),
        // What it names may be used any number of times.
        Node::Let(_, value, body) => accumulates(value) * 2 + accumulates(body),
    }
}
