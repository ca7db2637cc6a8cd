//! Types, checked before a condition runs, as Argo's engine does with what it knows of `result`.
//!
//! Without this `result == "0.5"` would be false on a number, which fails a release; it is a mistake
//! in the condition. Values of maps are known only when they are there: there everything fits.

use std::fmt;

use super::ConditionError;
use super::syntax::{Node, OVER_ALL};

/// The type of a value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Type {
    /// Known only when it is there.
    Any,
    Nil,
    Bool,
    Int,
    Float,
    Text,
    List(Box<Type>),
    Map,
}

/// As Go writes them.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("interface {}"),
            Self::Nil => f.write_str("nil"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Float => f.write_str("float64"),
            Self::Text => f.write_str("string"),
            Self::List(item) => write!(f, "[]{item}"),
            Self::Map => f.write_str("map[string]interface {}"),
        }
    }
}

type Typed = Result<Type, ConditionError>;

/// The type of the whole condition, with `result` of this type.
///
/// # Errors
/// What does not fit.
pub(super) fn check(node: &Node, result: &Type) -> Typed {
    Scope { names: vec![("result".to_owned(), result.clone())], closures: Vec::new() }.of(node)
}

struct Scope {
    names: Vec<(String, Type)>,
    /// What `#` is, from the outside in.
    closures: Vec<Type>,
}

fn wrong(message: String) -> ConditionError {
    ConditionError::Type(message)
}

fn list(item: Type) -> Type {
    Type::List(Box::new(item))
}

fn is_number(kind: &Type) -> bool {
    matches!(kind, Type::Int | Type::Float | Type::Any)
}

fn fits(kind: &Type, expected: &Type) -> bool {
    kind == expected || *kind == Type::Any
}

fn comparable(a: &Type, b: &Type) -> bool {
    let loose = |kind: &Type| matches!(kind, Type::Any | Type::Nil);
    match (a, b) {
        _ if loose(a) || loose(b) => true,
        (Type::List(_), Type::List(_)) => true,
        _ => a == b || (is_number(a) && is_number(b)),
    }
}

impl Scope {
    fn of(&mut self, node: &Node) -> Typed {
        Ok(match node {
            Node::Nil => Type::Nil,
            Node::Bool(_) => Type::Bool,
            Node::Int(_) => Type::Int,
            Node::Float(_) => Type::Float,
            Node::Text(_) => Type::Text,
            Node::Name(name) => self.name(name)?,
            Node::Array(items) => {
                let kinds: Vec<_> = items.iter().map(|i| self.of(i)).collect::<Result<_, _>>()?;
                let first = kinds.first().cloned().unwrap_or(Type::Any);
                list(if kinds.iter().all(|kind| *kind == first) { first } else { Type::Any })
            }
            Node::Map(entries) => {
                entries.iter().try_for_each(|(_, value)| self.of(value).map(drop))?;
                Type::Map
            }
            Node::Unary(operator, of) => self.unary(operator, of)?,
            Node::Binary(operator, left, right) => {
                let (left, right) = (self.of(left)?, self.of(right)?);
                binary(operator, &left, &right)?
            }
            Node::Choice(condition, yes, no) => {
                let condition = self.of(condition)?;
                if !fits(&condition, &Type::Bool) {
                    return Err(wrong(format!("non-bool expression (type {condition}) before ?")));
                }
                let (yes, no) = (self.of(yes)?, self.of(no)?);
                if yes == no { yes } else { Type::Any }
            }
            Node::Member(of, at, _) => {
                let (of, at) = (self.of(of)?, self.of(at)?);
                member(&of, &at)?
            }
            Node::Slice(of, from, to) => {
                self.slice(of, [from, to].into_iter().flatten().map(|end| &**end))?
            }
            Node::Call(name, args) if OVER_ALL.contains(&name.as_str()) => {
                self.over_all(name, args)?
            }
            Node::Call(name, args) => {
                let kinds: Vec<_> =
                    args.iter().map(|arg| self.of(arg)).collect::<Result<_, _>>()?;
                call(name, &kinds)?
            }
            Node::Method(of, name, args) => {
                args.iter().try_for_each(|arg| self.of(arg).map(drop))?;
                match self.of(of)? {
                    Type::Any | Type::Map => Type::Any,
                    kind => return Err(wrong(format!("type {kind} has no method {name}"))),
                }
            }
            Node::Closure(body) => self.of(body)?,
            Node::Let(name, value, body) => {
                let value = self.of(value)?;
                self.names.push((name.clone(), value));
                let body = self.of(body);
                self.names.pop();
                body?
            }
        })
    }

    fn slice<'n>(&mut self, of: &Node, mut ends: impl Iterator<Item = &'n Node>) -> Typed {
        ends.try_for_each(|end| match self.of(end)? {
            Type::Int | Type::Any => Ok(()),
            kind => Err(wrong(format!("non-integer slice index {kind}"))),
        })?;
        match self.of(of)? {
            kind @ (Type::List(_) | Type::Text | Type::Any) => Ok(kind),
            kind => Err(wrong(format!("cannot slice {kind}"))),
        }
    }

    fn name(&self, name: &str) -> Typed {
        if let Some((_, kind)) = self.names.iter().rev().find(|(known, _)| known == name) {
            return Ok(kind.clone());
        }
        match (name, self.closures.last()) {
            ("#", Some(kind)) => Ok(kind.clone()),
            ("#index", Some(_)) => Ok(Type::Int),
            ("#acc", Some(_)) => Ok(Type::Any),
            // Without `#` a field of the value may be meant.
            (_, Some(Type::Any | Type::Map)) => Ok(Type::Any),
            ("$env", _) => Ok(Type::Map),
            _ => Err(wrong(format!("unknown name {name}"))),
        }
    }

    fn unary(&mut self, operator: &str, of: &Node) -> Typed {
        let kind = self.of(of)?;
        let good = match operator {
            "not" => fits(&kind, &Type::Bool),
            _ => is_number(&kind),
        };
        if good { Ok(kind) } else { Err(mismatch(operator, &[&kind])) }
    }

    /// A function that asks every value.
    fn over_all(&mut self, name: &str, args: &[Node]) -> Typed {
        let Some((values, rest)) = args.split_first() else {
            return Err(wrong(format!("not enough arguments to call {name}")));
        };
        let item = match self.of(values)? {
            Type::List(item) => *item,
            Type::Any | Type::Nil => Type::Any,
            Type::Map if !matches!(name, "all" | "any" | "one" | "none") => Type::Any,
            kind => {
                return Err(wrong(format!("builtin {name} takes only array (got {kind})")));
            }
        };
        self.closures.push(item.clone());
        let kinds: Result<Vec<_>, _> = rest.iter().map(|arg| self.of(arg)).collect();
        self.closures.pop();
        let asked = kinds?.first().cloned();
        let question = matches!(
            name,
            "all"
                | "any"
                | "one"
                | "none"
                | "filter"
                | "find"
                | "findIndex"
                | "findLast"
                | "findLastIndex"
                | "count"
        );
        match &asked {
            Some(kind) if question && !fits(kind, &Type::Bool) => {
                return Err(wrong(format!("predicate should return boolean (got {kind})")));
            }
            None if question && name != "count" => {
                return Err(wrong(format!("not enough arguments to call {name}")));
            }
            _ => {}
        }
        Ok(match name {
            "all" | "any" | "one" | "none" => Type::Bool,
            "filter" | "sortBy" => list(item),
            "map" => list(asked.unwrap_or(Type::Any)),
            "count" | "findIndex" | "findLastIndex" => Type::Int,
            "groupBy" => Type::Map,
            "sum" => asked.unwrap_or(item),
            _ => Type::Any,
        })
    }
}

fn mismatch(operator: &str, kinds: &[&Type]) -> ConditionError {
    let kinds: Vec<_> = kinds.iter().map(ToString::to_string).collect();
    let types = if kinds.len() > 1 { "mismatched types" } else { "type" };
    wrong(format!("invalid operation: {operator} ({types} {})", kinds.join(" and ")))
}

fn binary(operator: &str, left: &Type, right: &Type) -> Typed {
    let both = |kind: &Type| fits(left, kind) && fits(right, kind);
    let numbers = is_number(left) && is_number(right);
    let of_numbers = match (left, right) {
        (Type::Any, _) | (_, Type::Any) => Type::Any,
        (Type::Int, Type::Int) => Type::Int,
        _ => Type::Float,
    };
    let found = match operator {
        "and" | "or" if both(&Type::Bool) => Some(Type::Bool),
        "==" | "!=" if comparable(left, right) => Some(Type::Bool),
        "<" | ">" | "<=" | ">=" => (numbers || both(&Type::Text)).then_some(Type::Bool),
        "in" => return within(left, right),
        "matches" | "contains" | "startsWith" | "endsWith" if both(&Type::Text) => Some(Type::Bool),
        "+" if both(&Type::Text) && !numbers => Some(Type::Text),
        "+" | "-" if numbers => Some(of_numbers),
        "+" if matches!((left, right), (Type::Any, _) | (_, Type::Any)) => Some(Type::Any),
        "*" if numbers => Some(of_numbers),
        "/" | "**" if numbers => Some(Type::Float),
        "%" if both(&Type::Int) => Some(Type::Int),
        "??" => Some(if left == right { left.clone() } else { Type::Any }),
        _ => None,
    };
    found.ok_or_else(|| mismatch(operator, &[left, right]))
}

fn within(left: &Type, right: &Type) -> Typed {
    match right {
        Type::Any | Type::Nil => Ok(Type::Bool),
        Type::Map if fits(left, &Type::Text) => Ok(Type::Bool),
        Type::List(item) if comparable(left, item) => Ok(Type::Bool),
        Type::List(item) => Err(wrong(format!("cannot use {left} as type {item} in array"))),
        _ => Err(mismatch("in", &[left, right])),
    }
}

fn member(of: &Type, at: &Type) -> Typed {
    let named = *at == Type::Text;
    match of {
        Type::Any => Ok(Type::Any),
        Type::Map if fits(at, &Type::Text) => Ok(Type::Any),
        Type::Map => Err(wrong(format!("cannot use {at} to get an element from {of}"))),
        Type::List(item) if fits(at, &Type::Int) => Ok((**item).clone()),
        Type::List(_) if named => Err(wrong(format!("type {of} has no field: write result[0]"))),
        Type::List(_) => {
            Err(wrong(format!("array elements can only be selected using an integer (got {at})")))
        }
        _ if named => Err(wrong(format!("type {of} has no field"))),
        _ => Err(wrong(format!("type {of} has no elements: write result without [...]"))),
    }
}

/// The fewest and the most arguments of a function.
fn arity(name: &str) -> Result<(usize, usize), ConditionError> {
    Ok(match name {
        "now" | "date" | "duration" | "timezone" => {
            return Err(wrong(format!(
                "{name} is not available in conditions: an answer is judged by itself, not by the \
                 time; use time() in the query"
            )));
        }
        "len" | "asInt" | "asFloat" | "isNaN" | "isInf" | "isNil" | "abs" | "ceil" | "floor"
        | "round" | "int" | "float" | "string" | "type" | "toJSON" | "fromJSON" | "toBase64"
        | "fromBase64" | "first" | "last" | "keys" | "values" | "toPairs" | "fromPairs"
        | "uniq" | "flatten" | "lower" | "upper" | "reverse" | "bitnot" => (1, 1),
        "sort" | "trim" | "trimPrefix" | "trimSuffix" | "join" => (1, 2),
        "split" | "splitAfter" => (2, 3),
        "default" | "get" | "take" | "indexOf" | "lastIndexOf" | "hasPrefix" | "hasSuffix"
        | "repeat" | "bitand" | "bitor" | "bitxor" | "bitnand" | "bitshl" | "bitshr"
        | "bitushr" => (2, 2),
        "replace" => (3, 4),
        "min" | "max" | "mean" | "median" | "concat" => (1, 64),
        _ => return Err(wrong(format!("unknown name {name}"))),
    })
}

/// A function of plain arguments: how many, and what it gives.
fn call(name: &str, args: &[Type]) -> Typed {
    let arg = |i: usize| args.get(i).cloned().unwrap_or(Type::Any);
    let item_of = |kind: Type| match kind {
        Type::List(item) => *item,
        Type::Any => Type::Any,
        other => other,
    };
    let (least, most) = arity(name)?;
    if args.len() < least || args.len() > most {
        let how = if args.len() < least { "not enough" } else { "too many" };
        return Err(wrong(format!("{how} arguments to call {name}")));
    }
    let refuse = |kind: &Type| Err(wrong(format!("invalid argument for {name} (type {kind})")));
    match (name, &arg(0)) {
        ("isNaN" | "isInf", kind) if !is_number(kind) => {
            return Err(wrong(format!(
                "cannot use {kind} as argument (type float64) to call {name}"
            )));
        }
        ("abs" | "ceil" | "floor" | "round", kind) if !is_number(kind) => return refuse(kind),
        ("len", kind @ (Type::Bool | Type::Int | Type::Float | Type::Nil)) => return refuse(kind),
        ("min" | "max" | "mean" | "median", kind @ (Type::Bool | Type::Text | Type::Map)) => {
            return refuse(kind);
        }
        ("first" | "last" | "sort" | "uniq" | "join" | "reverse" | "concat", kind)
            if !matches!(kind, Type::List(_) | Type::Any) =>
        {
            return refuse(kind);
        }
        ("lower" | "upper" | "trim" | "split" | "hasPrefix" | "hasSuffix", kind)
            if !fits(kind, &Type::Text) =>
        {
            return refuse(kind);
        }
        _ => {}
    }
    Ok(match name {
        "len" | "asInt" | "int" | "indexOf" | "lastIndexOf" => Type::Int,
        "asFloat" | "float" | "mean" | "median" | "ceil" | "floor" | "round" => Type::Float,
        "isNaN" | "isInf" | "isNil" | "hasPrefix" | "hasSuffix" => Type::Bool,
        "string" | "type" | "toJSON" | "toBase64" | "fromBase64" | "trim" | "trimPrefix"
        | "trimSuffix" | "lower" | "upper" | "replace" | "repeat" | "join" => Type::Text,
        "abs" => arg(0),
        "min" | "max" if args.iter().all(|kind| *kind == arg(0)) => item_of(arg(0)),
        "first" | "last" => item_of(arg(0)),
        "take" | "sort" | "uniq" | "reverse" => arg(0),
        "split" | "splitAfter" => list(Type::Text),
        "keys" | "values" | "toPairs" | "flatten" | "concat" => list(Type::Any),
        "fromPairs" => Type::Map,
        _ if name.starts_with("bit") => Type::Int,
        _ => Type::Any,
    })
}
