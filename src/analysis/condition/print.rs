//! The tree as the evaluator's text, with a bracket wherever its precedence could differ.

use std::fmt::Write as _;

use super::syntax::Node;

/// The text.
pub(super) fn print(node: &Node) -> String {
    let mut out = String::new();
    write(node, &mut out);
    out
}

fn strength(operator: &str) -> u8 {
    match operator {
        "or" => 1,
        "and" => 2,
        "+" | "-" => 4,
        "*" | "/" | "%" => 5,
        "**" | "??" => 0,
        _ => 3,
    }
}

fn write(node: &Node, out: &mut String) {
    match node {
        Node::Nil => out.push_str("nil"),
        Node::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Node::Int(value) => put(out, value),
        // With a fraction, so that it stays a float.
        Node::Float(value) => put(out, &format_args!("{value:?}")),
        Node::Text(text) => quote(text, out),
        Node::Name(name) => out.push_str(name),
        Node::Array(items) => list("[", items, "]", out),
        Node::Map(entries) => {
            out.push('{');
            for (i, (key, value)) in entries.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                quote(key, out);
                out.push_str(": ");
                write(value, out);
            }
            out.push('}');
        }
        Node::Unary(operator, of) => {
            out.push_str(if *operator == "not" { "!" } else { operator });
            tight(of, out);
        }
        Node::Binary("??", left, right) => {
            tight(left, out);
            out.push_str(" ?? ");
            tight(right, out);
        }
        Node::Binary(operator, left, right) => {
            side(left, operator, true, out);
            put(out, &format_args!(" {operator} "));
            side(right, operator, false, out);
        }
        Node::Choice(condition, yes, no) => {
            tight(condition, out);
            out.push_str(" ? ");
            tight(yes, out);
            out.push_str(" : ");
            tight(no, out);
        }
        Node::Member(..) | Node::Slice(..) => part(node, out),
        Node::Call(name, args) => {
            out.push_str(name);
            list("(", args, ")", out);
        }
        Node::Method(of, name, args) => {
            tight(of, out);
            put(out, &format_args!(".{name}"));
            list("(", args, ")", out);
        }
        Node::Closure(body) => {
            out.push('{');
            write(body, out);
            out.push('}');
        }
        Node::Let(name, value, body) => {
            put(out, &format_args!("let {name} = "));
            tight(value, out);
            out.push_str("; ");
            write(body, out);
        }
    }
}

/// A member, an element or a slice.
fn part(node: &Node, out: &mut String) {
    match node {
        Node::Member(of, at, optional) => {
            tight(of, out);
            out.push_str(if *optional { "?.[" } else { "[" });
            write(at, out);
        }
        Node::Slice(of, from, to) => {
            tight(of, out);
            out.push('[');
            from.iter().for_each(|from| write(from, out));
            out.push(':');
            to.iter().for_each(|to| write(to, out));
        }
        _ => return,
    }
    out.push(']');
}

/// One side of an operator: in brackets unless it binds more strongly, or as strongly on the left.
fn side(node: &Node, operator: &str, left: bool, out: &mut String) {
    let free = match node {
        Node::Binary(inner, ..) => {
            let (inner, outer) = (strength(inner), strength(operator));
            inner > 0 && outer > 0 && (inner > outer || (left && inner == outer && outer != 3))
        }
        _ => false,
    };
    if free { write(node, out) } else { tight(node, out) }
}

/// In brackets unless it is one thing.
fn tight(node: &Node, out: &mut String) {
    let one =
        !matches!(node, Node::Unary(..) | Node::Binary(..) | Node::Choice(..) | Node::Let(..));
    let negative = matches!(node, Node::Int(value) if *value < 0);
    if one && !negative {
        return write(node, out);
    }
    out.push('(');
    write(node, out);
    out.push(')');
}

fn list(open: &str, items: &[Node], close: &str, out: &mut String) {
    out.push_str(open);
    for (i, item) in items.iter().enumerate() {
        out.push_str(if i == 0 { "" } else { ", " });
        write(item, out);
    }
    out.push_str(close);
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn put(out: &mut String, what: &dyn std::fmt::Display) {
    // Writing to a String cannot fail.
    let _ok = write!(out, "{what}");
}
