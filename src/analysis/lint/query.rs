//! What is wrong with a query: its windows beside the interval, and matchers that no series meets.

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
