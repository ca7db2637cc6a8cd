//! What is compared: by the template, or found in a query of the user's own rule.
//!
//! A rule of the form "bad of all" or "good of all" names two raw counters, and a quantile names a
//! histogram. With those, what a regression would have looked like is known without asking anybody, and
//! judges that compare can be shown beside the rule.

use jiff::SignedDuration;
use promql_parser::label::Matcher;
use promql_parser::parser::{self, Expr, VectorSelector};

use super::rule::{self, Asked, RuleError, matcher_text};
use crate::analysis::compare::{WARM_UP, written};
use crate::analysis::history::Window;
use crate::analysis::judge::sequential::{Comparison, Direction, Kind};
use crate::api::compare::Compare;

/// Raw series in which an arm is compared and a regression is injected.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    /// How it is compared.
    pub comparison: Comparison,
    /// What is read for each part, by its place among all that is read.
    pub parts: Vec<usize>,
    /// The first part counts good events: bad ones are what is left of all.
    pub complement: bool,
    /// Judges that compare look at it; else it only carries a regression into the user's own rules.
    pub compared: bool,
    /// It is measured and decides nothing: a dry run, or advisory.
    pub alone: bool,
    /// What canary pods do while they are younger is not counted; `None`: as long as is usual.
    pub warm_up: Option<SignedDuration>,
}

impl Signal {
    /// What a template compares.
    ///
    /// # Errors
    /// When a query is no raw series.
    pub fn of(
        comparison: Comparison,
        compare: &Compare,
        pod_label: &str,
        all: &mut Vec<Asked>,
    ) -> Result<Self, RuleError> {
        let (_, queries) = written(compare).unwrap_or((comparison.kind, Vec::new()));
        let written = compare.warm_up.as_ref().and_then(crate::spec::duration);
        let signal = Self::raw(comparison, &queries, pod_label, all)?;
        Ok(Self { warm_up: written, ..signal })
    }

    /// Whether a release that compares it as `of` would wait for it and be ended by it.
    #[must_use]
    pub fn decides(&self, of: &Comparison) -> bool {
        !self.alone && (of.critical || of.can_decide())
    }

    /// The warm-up of a release that has learnt this one.
    #[must_use]
    pub fn warm_up(&self, learnt: Option<SignedDuration>) -> SignedDuration {
        self.warm_up.unwrap_or(WARM_UP.max(learnt.unwrap_or_default()))
    }

    /// What these raw series compare.
    ///
    /// # Errors
    /// When a query is no raw series.
    pub fn raw(
        comparison: Comparison,
        queries: &[&str],
        pod_label: &str,
        all: &mut Vec<Asked>,
    ) -> Result<Self, RuleError> {
        let buckets = comparison.kind == Kind::Histogram;
        let place = |query: &&str| rule::raw(query, pod_label, buckets, all);
        let parts = queries.iter().map(place).collect::<Result<_, _>>()?;
        let (complement, compared, alone) = (false, true, false);
        Ok(Self { comparison, parts, complement, compared, alone, warm_up: None })
    }

    /// What a query of a rule compares, where it can be told. `small_is_good`: which way the rule goes.
    #[must_use]
    pub fn found_in(
        name: &str,
        query: &str,
        small_is_good: bool,
        pod_label: &str,
        all: &mut Vec<Asked>,
    ) -> Option<Self> {
        let expr = parser::parse(query).ok()?;
        let mut comparison = comparison(name, Kind::Ratio);
        if let Some(buckets) = quantile(&expr).filter(|_| small_is_good) {
            comparison.kind = Kind::Histogram;
            return Self::raw(comparison, &[&buckets.to_string()], pod_label, all).ok();
        }
        let (share, total, flipped) = share(&expr, false)?;
        let complement = small_is_good == flipped;
        let mut known = all.clone();
        let queries = [share.to_string(), total.to_string()];
        let queries: Vec<&str> = queries.iter().map(String::as_str).collect();
        let signal = Self::raw(comparison, &queries, pod_label, &mut known).ok()?;
        *all = known;
        Some(Self { complement, ..signal })
    }

    /// Makes what was read what is compared.
    pub fn finish(&self, window: &mut Window) {
        if !self.complement {
            return;
        }
        for (_, tick) in &mut window.ticks {
            let pods = tick.canary.pods.values_mut().chain(tick.stable.pods.values_mut());
            for pod in pods {
                if let [first, total] = pod.values.as_mut_slice() {
                    *first = (*total - *first).max(0.0);
                }
            }
        }
    }
}

/// A comparison with nothing said about it.
#[must_use]
pub fn comparison(name: &str, kind: Kind) -> Comparison {
    Comparison {
        name: name.to_owned(),
        kind,
        direction: Direction::Increase,
        harmful: None,
        critical: false,
        weight: 1.0,
        min_events: 0.0,
        history: None,
    }
}

/// The buckets of the one quantile in a query.
fn quantile(expr: &Expr) -> Option<VectorSelector> {
    let below = |expr: &Expr| match rule::selectors(expr).as_slice() {
        [one] => Some(bare(one)),
        _ => None,
    };
    match expr {
        Expr::Paren(paren) => quantile(&paren.expr),
        Expr::Aggregate(aggregate) => quantile(&aggregate.expr),
        Expr::Binary(binary) => quantile(&binary.lhs).or_else(|| quantile(&binary.rhs)),
        Expr::Call(call) if call.func.name == "histogram_quantile" => below(expr),
        Expr::Call(call) => call.args.args.iter().find_map(|arg| quantile(arg)),
        _ => None,
    }
}

fn bare(selector: &VectorSelector) -> VectorSelector {
    VectorSelector { offset: None, at: None, ..selector.clone() }
}

/// The part and the whole of the first quotient of a selector by a wider one of the same metric, and
/// whether it is taken away from something on the way.
fn share(expr: &Expr, flipped: bool) -> Option<(VectorSelector, VectorSelector, bool)> {
    match expr {
        Expr::Paren(paren) => share(&paren.expr, flipped),
        Expr::Aggregate(aggregate) => share(&aggregate.expr, flipped),
        Expr::Unary(unary) => share(&unary.expr, !flipped),
        Expr::Call(call) => call.args.args.iter().find_map(|arg| share(arg, flipped)),
        Expr::Binary(binary) => {
            let op = binary.op.to_string();
            let parts = (rule::selectors(known(&binary.lhs)), rule::selectors(&binary.rhs));
            if let ("/", ([part], [whole])) = (op.as_str(), (&*parts.0, &*parts.1))
                && is_wider(whole, part)
            {
                return Some((bare(part), bare(whole), flipped));
            }
            let right = flipped != (op == "-");
            share(&binary.lhs, flipped).or_else(|| share(&binary.rhs, right))
        }
        _ => None,
    }
}

/// An expression without what stands for it where it has no series: `bad or 0 * all`.
fn known(expr: &Expr) -> &Expr {
    match expr {
        Expr::Paren(paren) => known(&paren.expr),
        Expr::Binary(binary) if binary.op.to_string() == "or" => known(&binary.lhs),
        _ => expr,
    }
}

/// Whether `whole` has some of the matchers of `part` and no other.
fn is_wider(whole: &VectorSelector, part: &VectorSelector) -> bool {
    let texts = |selector: &VectorSelector| -> Vec<String> {
        selector.matchers.matchers.iter().map(|m: &Matcher| matcher_text(m)).collect()
    };
    let (whole_texts, part_texts) = (texts(whole), texts(part));
    whole.name == part.name
        && whole_texts.len() < part_texts.len()
        && whole_texts.iter().all(|text| part_texts.contains(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(query: &str, small_is_good: bool) -> Option<(Kind, Vec<String>, bool)> {
        let mut all = Vec::new();
        let signal = Signal::found_in("errors", query, small_is_good, "pod", &mut all)?;
        let parts = signal.parts.iter().map(|at| all[*at].selector.clone()).collect();
        Some((signal.comparison.kind, parts, signal.complement))
    }

    #[test]
    fn bad_of_all_and_good_of_all_are_seen_in_the_users_query() {
        let bad = r#"x{app="web",code=~"5.."}"#;
        let good = r#"x{app="web",code!~"5.."}"#;
        let all = r#"x{app="web"}"#;
        for (query, small_is_good, part, complement) in [
            (format!("sum(rate({bad}[2m])) / sum(rate({all}[2m]))"), true, bad, false),
            (format!("sum(rate({good}[2m])) / sum(rate({all}[2m]))"), false, good, true),
            (format!("100 - sum(rate({good}[2m])) / sum(rate({all}[2m])) * 100"), true, good, true),
            (format!("1 - sum(rate({bad}[1m])) / sum(rate({all}[1m]))"), false, bad, false),
            (
                format!("(sum(rate({bad}[2m])) or vector(0)) / sum(rate({all}[2m]))"),
                true,
                bad,
                false,
            ),
            (
                format!(
                    "(sum(rate({bad}[2m])) or 0 * sum(rate({all}[2m]))) / sum(rate({all}[2m]))"
                ),
                true,
                bad,
                false,
            ),
        ] {
            let parts = vec![part.to_owned(), all.to_owned()];
            let expected = Some((Kind::Ratio, parts, complement));
            assert_eq!(found(&query, small_is_good), expected, "{query}");
        }
    }

    #[test]
    fn a_quantile_is_seen_and_what_is_neither_is_left_alone() {
        let query =
            "histogram_quantile(0.99, sum by (le) (rate(seconds_bucket{a=\"b\"}[1m]))) * 1000";
        let buckets = vec!["seconds_bucket{a=\"b\"}".to_owned()];
        assert_eq!(found(query, true), Some((Kind::Histogram, buckets, false)));
        assert_eq!(found("sum(rate(x[1m]))", true), None);
        assert_eq!(found("sum(rate(x[1m])) / sum(rate(y[1m]))", true), None);
    }
}
