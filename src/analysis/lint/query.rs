//! What is wrong with a query: its windows beside the interval, and matchers that no series meets.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{self, Expr, VectorSelector};

use super::{Finding, error, warning};
use crate::analysis::metric::CheckedMetric;

/// `rate` needs two points, and few servers scrape more often than every 15 s.
const SHORTEST_WINDOW: SignedDuration = SignedDuration::from_secs(30);

/// Looks at every selector of a query.
pub(super) fn lint(metric: &CheckedMetric, query: &str, path: &str, findings: &mut Vec<Finding>) {
    let Ok(expr) = parser::parse(query) else { return };
    let mut seen = Seen::default();
    seen.expr(&expr);
    for window in &seen.windows {
        let (text, window) = (span(*window), *window);
        if let Some(interval) = metric.interval.filter(|interval| window < *interval) {
            let message = format!(
                "looks at the last {text} every {}: what happens in between is never seen",
                span(interval)
            );
            let remedy = "make the window at least as long as the interval";
            findings.push(warning(path, query, &message, remedy));
        } else if window < SHORTEST_WINDOW {
            let message = format!("a window of {text} holds one point or none of most servers");
            let remedy = "use four times the scrape interval, for example [1m]";
            findings.push(warning(path, query, &message, remedy));
        }
    }
    for impossible in &seen.impossible {
        let message = format!("selects nothing: {impossible}");
        findings.push(error(path, query, &message, "correct the matchers"));
    }
}

/// Whether a query is a share of requests that has no answer while there are none of the kind: a counter
/// over itself with fewer matchers, and no `or` that fills the gap.
pub(super) fn is_silent(query: &str) -> bool {
    parser::parse(query).is_ok_and(|expr| silent(&expr))
}

fn silent(expr: &Expr) -> bool {
    let is_number = |expr: &Expr| matches!(expr, Expr::NumberLiteral(_));
    match expr {
        Expr::Paren(paren) => silent(&paren.expr),
        Expr::Binary(binary) => match binary.op.to_string().as_str() {
            "and" => silent(&binary.lhs),
            "*" | "/" if is_number(&binary.rhs) => silent(&binary.lhs),
            "*" if is_number(&binary.lhs) => silent(&binary.rhs),
            "/" => match (counter(&binary.lhs), counter(&binary.rhs)) {
                (Some(some), Some(all)) => some.name == all.name && is_narrower(some, all),
                _ => false,
            },
            _ => false,
        },
        _ => false,
    }
}

/// The one selector of `sum(rate(x[1m]))`.
fn counter(expr: &Expr) -> Option<&VectorSelector> {
    match expr {
        Expr::Paren(paren) => counter(&paren.expr),
        Expr::Aggregate(aggregate) => counter(&aggregate.expr),
        Expr::Call(call) => counter(call.args.args.first()?),
        Expr::MatrixSelector(matrix) => Some(&matrix.vs),
        Expr::VectorSelector(selector) => Some(selector),
        _ => None,
    }
}

fn is_narrower(some: &VectorSelector, all: &VectorSelector) -> bool {
    let of = |vs: &VectorSelector| -> BTreeSet<String> {
        vs.matchers.matchers.iter().map(ToString::to_string).collect()
    };
    let (some, all) = (of(some), of(all));
    all.is_subset(&some) && all != some
}

fn span(span: SignedDuration) -> String {
    let span = std::time::Duration::try_from(span).unwrap_or_default();
    humantime::format_duration(span).to_string()
}

#[derive(Default)]
struct Seen {
    /// The ranges of all range selectors, each once.
    windows: Vec<SignedDuration>,
    /// Matchers that contradict each other.
    impossible: Vec<String>,
}

impl Seen {
    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Aggregate(aggregate) => self.expr(&aggregate.expr),
            Expr::Unary(unary) => self.expr(&unary.expr),
            Expr::Paren(paren) => self.expr(&paren.expr),
            Expr::Binary(binary) => {
                self.expr(&binary.lhs);
                self.expr(&binary.rhs);
            }
            Expr::Call(call) => call.args.args.iter().for_each(|arg| self.expr(arg)),
            Expr::Subquery(subquery) => {
                self.window(subquery.range);
                self.expr(&subquery.expr);
            }
            Expr::MatrixSelector(matrix) => {
                self.window(matrix.range);
                self.selector(&matrix.vs);
            }
            Expr::VectorSelector(selector) => self.selector(selector),
            _ => {}
        }
    }

    fn window(&mut self, range: std::time::Duration) {
        let Ok(range) = SignedDuration::try_from(range) else { return };
        if !self.windows.contains(&range) {
            self.windows.push(range);
        }
    }

    /// Two different values of one label, or a value and its denial.
    fn selector(&mut self, selector: &VectorSelector) {
        let matchers = &selector.matchers.matchers;
        for (i, one) in matchers.iter().enumerate() {
            for other in matchers.iter().skip(i + 1).filter(|other| other.name == one.name) {
                if contradict(one, other) || contradict(other, one) {
                    self.impossible.push(format!("{one} and {other}"));
                }
            }
        }
    }
}

fn contradict(one: &Matcher, other: &Matcher) -> bool {
    match (&one.op, &other.op) {
        (MatchOp::Equal, MatchOp::Equal) => one.value != other.value,
        (MatchOp::Equal, MatchOp::NotEqual) => one.value == other.value,
        (MatchOp::Equal, MatchOp::Re(_) | MatchOp::NotRe(_)) => !other.is_match(&one.value),
        _ => false,
    }
}
