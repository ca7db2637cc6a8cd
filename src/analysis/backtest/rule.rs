//! A user's own PromQL, made ready to be asked of raw series in memory, for pods that play the canary.
//!
//! Every selector becomes a series of its own name; what has to be read for it is the same selector
//! summed by pod and by the labels that the query names. Matchers that tell versions apart are taken
//! out, because in history the version of yesterday has another name: those on the pod's label, and
//! those whose value comes from an argument that names a version ([`mark`]). Refused: queries that keep
//! labels which they do not name (`without`, `ignoring`, `label_replace`).

use std::collections::BTreeSet;

use jiff::SignedDuration;
use promql_parser::label::{MatchOp, Matcher, Matchers};
use promql_parser::parser::{self, Expr, LabelModifier, Offset, VectorSelector};

use crate::analysis::arms::{Arm, more_than_selector};

/// The value of an argument that names a version of one arm.
#[must_use]
pub fn mark(arm: Arm) -> &'static str {
    match arm {
        Arm::Canary => "sluice-canary-version",
        Arm::Stable => "sluice-stable-version",
    }
}

/// What is read: a selector without arms, and the labels that are kept besides the pod's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The selector.
    pub selector: String,
    /// Labels that are kept.
    pub keep: BTreeSet<String>,
}

impl Asked {
    /// The range query.
    #[must_use]
    pub fn query(&self, pod_label: &str) -> String {
        let labels = std::iter::once(pod_label).chain(self.keep.iter().map(String::as_str));
        let labels: Vec<_> = labels.collect();
        format!("sum by ({}) ({})", labels.join(", "), self.selector)
    }

    /// The place of this among all that is read; added where it is new.
    pub fn place(self, all: &mut Vec<Self>) -> usize {
        all.iter().position(|other| *other == self).unwrap_or_else(|| {
            all.push(self);
            all.len() - 1
        })
    }
}

/// Why a query cannot be replayed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// It does not parse.
    #[error("not PromQL: {0}")]
    Parse(String),
    /// It keeps labels that nobody knows beforehand.
    #[error("{0} keeps labels that the query does not name: write by (...) or on (...)")]
    Labels(String),
    /// Not a raw series.
    #[error(
        "{query:?} is not a raw series but has {found}: write the bare counter, bucket or gauge"
    )]
    NotRaw {
        /// The query.
        query: String,
        /// What is too much.
        found: String,
    },
    /// There is nothing to read.
    #[error("{0:?} selects no series")]
    NoSelector(String),
}

/// A query over series in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// The query.
    pub text: String,
    /// The series that it names.
    pub series: Vec<Named>,
    /// How far back it looks.
    pub lead: SignedDuration,
}

/// One series name of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The name.
    pub name: String,
    /// What it stands for, by its place among all that is read.
    pub asked: usize,
    /// Whose pods.
    pub arm: Arm,
}

impl Rule {
    /// Rewrites `query`; what has to be read is added to `all`.
    ///
    /// # Errors
    /// Why it cannot be replayed.
    pub fn of(query: &str, pod_label: &str, all: &mut Vec<Asked>) -> Result<Self, RuleError> {
        Self::read(query, None, pod_label, all)
    }

    /// The same where it is known whose series the query asks for, whatever its matchers say.
    ///
    /// # Errors
    /// Why it cannot be replayed.
    pub fn of_arm(
        query: &str,
        arm: Arm,
        pod_label: &str,
        all: &mut Vec<Asked>,
    ) -> Result<Self, RuleError> {
        Self::read(query, Some(arm), pod_label, all)
    }

    fn read(
        query: &str,
        known: Option<Arm>,
        pod_label: &str,
        all: &mut Vec<Asked>,
    ) -> Result<Self, RuleError> {
        let mut expr = parser::parse(query).map_err(RuleError::Parse)?;
        let mut keep = BTreeSet::new();
        named_labels(&expr, &mut keep)?;
        keep.remove(pod_label);
        let mut series: Vec<Named> = Vec::new();
        each_selector(&mut expr, &mut |selector| {
            let (bare, arm) = bare(selector, pod_label)?;
            let arm = known.unwrap_or(arm);
            let keep = match is_bucket(&bare) {
                true => keep.iter().cloned().chain(["le".to_owned()]).collect(),
                false => keep.iter().filter(|label| *label != "le").cloned().collect(),
            };
            let asked = Asked { selector: bare.to_string(), keep }.place(all);
            let word = if arm == Arm::Canary { "canary" } else { "stable" };
            let name = format!("sluice_{word}_{asked}");
            let named = Named { name: name.clone(), asked, arm };
            if !series.contains(&named) {
                series.push(named);
            }
            selector.name = Some(name);
            selector.matchers = Matchers::empty();
            Ok(())
        })?;
        if series.is_empty() {
            return Err(RuleError::NoSelector(query.to_owned()));
        }
        Ok(Self { text: expr.to_string(), series, lead: lead(&expr) })
    }
}

/// The place of a raw series among all that is read, for a comparison.
///
/// # Errors
/// When it is more than a selector.
pub fn raw(
    query: &str,
    pod_label: &str,
    buckets: bool,
    all: &mut Vec<Asked>,
) -> Result<usize, RuleError> {
    let expr = parser::parse(query).map_err(RuleError::Parse)?;
    if let Some(found) = more_than_selector(&expr) {
        return Err(RuleError::NotRaw { query: query.to_owned(), found });
    }
    let mut only = expr;
    while let Expr::Paren(paren) = only {
        only = *paren.expr;
    }
    let Expr::VectorSelector(selector) = only else {
        return Err(RuleError::NoSelector(query.to_owned()));
    };
    let (bare, _) = bare(&selector, pod_label)?;
    let keep = if buckets { BTreeSet::from(["le".to_owned()]) } else { BTreeSet::new() };
    Ok(Asked { selector: bare.to_string(), keep }.place(all))
}

/// A selector without time and version, and whose it is.
fn bare(selector: &VectorSelector, pod_label: &str) -> Result<(VectorSelector, Arm), RuleError> {
    let mut bare = selector.clone();
    (bare.offset, bare.at) = (None, None);
    if !bare.matchers.or_matchers.is_empty() {
        return Err(RuleError::Labels("`or` between matchers".to_owned()));
    }
    // All but the canary's are the stable version's.
    let of = |arm: Arm, others: bool| {
        let names = |m: &Matcher| m.value.contains(mark(arm)) && is_negative(m) == others;
        bare.matchers.matchers.iter().any(names)
    };
    let is_stable = of(Arm::Stable, false) || of(Arm::Canary, true);
    let arm = if is_stable { Arm::Stable } else { Arm::Canary };
    let version = |m: &Matcher| {
        m.name == pod_label
            || m.value.contains(mark(Arm::Canary))
            || m.value.contains(mark(Arm::Stable))
    };
    bare.matchers.matchers.retain(|m| !version(m));
    bare.matchers.matchers.sort_by(|a, b| (&a.name, &a.value).cmp(&(&b.name, &b.value)));
    Ok((bare, arm))
}

fn is_negative(matcher: &Matcher) -> bool {
    matches!(matcher.op, MatchOp::NotEqual | MatchOp::NotRe(_))
}

fn is_bucket(selector: &VectorSelector) -> bool {
    selector.name.as_deref().is_some_and(|name| name.ends_with("_bucket"))
}

type Edit<'a> = &'a mut dyn FnMut(&mut VectorSelector) -> Result<(), RuleError>;

fn each_selector(expr: &mut Expr, edit: Edit<'_>) -> Result<(), RuleError> {
    match expr {
        Expr::VectorSelector(selector) => edit(selector),
        Expr::MatrixSelector(matrix) => edit(&mut matrix.vs),
        Expr::Aggregate(aggregate) => {
            if let Some(param) = &mut aggregate.param {
                each_selector(param, edit)?;
            }
            each_selector(&mut aggregate.expr, edit)
        }
        Expr::Unary(unary) => each_selector(&mut unary.expr, edit),
        Expr::Binary(binary) => {
            each_selector(&mut binary.lhs, edit)?;
            each_selector(&mut binary.rhs, edit)
        }
        Expr::Paren(paren) => each_selector(&mut paren.expr, edit),
        Expr::Subquery(subquery) => each_selector(&mut subquery.expr, edit),
        Expr::Call(call) => call.args.args.iter_mut().try_for_each(|arg| each_selector(arg, edit)),
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => Ok(()),
    }
}

/// The selectors of an expression.
pub(super) fn selectors(expr: &Expr) -> Vec<VectorSelector> {
    let (mut expr, mut found) = (expr.clone(), Vec::new());
    let _never = each_selector(&mut expr, &mut |selector| {
        found.push(selector.clone());
        Ok(())
    });
    found
}

/// The labels that a query groups or joins by.
fn named_labels(expr: &Expr, found: &mut BTreeSet<String>) -> Result<(), RuleError> {
    let mut take = |modifier: &LabelModifier| match modifier {
        LabelModifier::Include(labels) => {
            found.extend(labels.labels.iter().cloned());
            Ok(())
        }
        LabelModifier::Exclude(_) => Err(RuleError::Labels("without or ignoring".to_owned())),
    };
    match expr {
        Expr::Aggregate(aggregate) => {
            if let Some(modifier) = &aggregate.modifier {
                take(modifier)?;
            }
            if let Some(param) = &aggregate.param {
                named_labels(param, found)?;
            }
            named_labels(&aggregate.expr, found)
        }
        Expr::Binary(binary) => {
            if let Some(matching) = binary.modifier.as_ref().and_then(|m| m.matching.as_ref()) {
                take(matching)?;
            }
            let more = binary.modifier.as_ref().and_then(|modifier| modifier.card.labels());
            found.extend(more.into_iter().flat_map(|labels| labels.labels.iter().cloned()));
            named_labels(&binary.lhs, found)?;
            named_labels(&binary.rhs, found)
        }
        Expr::Unary(unary) => named_labels(&unary.expr, found),
        Expr::Paren(paren) => named_labels(&paren.expr, found),
        Expr::Subquery(subquery) => named_labels(&subquery.expr, found),
        Expr::Call(call) => {
            if call.func.name.starts_with("label_") || call.func.name.starts_with("absent") {
                return Err(RuleError::Labels(format!("{}()", call.func.name)));
            }
            call.args.args.iter().try_for_each(|arg| named_labels(arg, found))
        }
        Expr::VectorSelector(_)
        | Expr::MatrixSelector(_)
        | Expr::NumberLiteral(_)
        | Expr::StringLiteral(_)
        | Expr::Extension(_) => Ok(()),
    }
}

/// How far back an expression looks.
fn lead(expr: &Expr) -> SignedDuration {
    let span = |duration: std::time::Duration| {
        SignedDuration::try_from(duration).unwrap_or(SignedDuration::ZERO)
    };
    let back = |offset: &Option<Offset>| match offset {
        Some(Offset::Pos(by)) => span(*by),
        Some(Offset::Neg(_)) | None => SignedDuration::ZERO,
    };
    match expr {
        Expr::VectorSelector(selector) => back(&selector.offset),
        Expr::MatrixSelector(matrix) => span(matrix.range) + back(&matrix.vs.offset),
        Expr::Aggregate(aggregate) => {
            aggregate.param.as_deref().map_or(SignedDuration::ZERO, lead).max(lead(&aggregate.expr))
        }
        Expr::Unary(unary) => lead(&unary.expr),
        Expr::Binary(binary) => lead(&binary.lhs).max(lead(&binary.rhs)),
        Expr::Paren(paren) => lead(&paren.expr),
        Expr::Subquery(sub) => span(sub.range) + back(&sub.offset) + lead(&sub.expr),
        Expr::Call(call) => {
            call.args.args.iter().map(|arg| lead(arg)).max().unwrap_or(SignedDuration::ZERO)
        }
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => {
            SignedDuration::ZERO
        }
    }
}

/// A matcher in a form that can be compared.
pub(super) fn matcher_text(matcher: &Matcher) -> String {
    let equal = matches!(matcher.op, MatchOp::Equal);
    format!("{}{}{}", matcher.name, if equal { "=" } else { "~" }, matcher)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(query: &str) -> (Rule, Vec<Asked>) {
        let mut all = Vec::new();
        let rule = Rule::of(query, "pod", &mut all).unwrap();
        (rule, all)
    }

    #[test]
    fn selectors_become_series_in_memory_and_the_version_is_taken_out() {
        let hash = mark(Arm::Canary);
        let query = format!(
            "sum(rate(requests_total{{app=\"web\",hash=\"{hash}\",code=~\"5..\"}}[2m])) / \
             sum(rate(requests_total{{app=\"web\",pod=~\"web-.*\"}}[5m] offset 1m))"
        );
        let (rule, all) = rule(&query);
        assert_eq!(
            rule.text,
            "sum(rate(sluice_canary_0[2m])) / sum(rate(sluice_canary_1[5m] offset 1m))"
        );
        assert_eq!(rule.lead, SignedDuration::from_mins(6));
        let queries: Vec<_> = all.iter().map(|asked| asked.query("pod")).collect();
        assert_eq!(
            queries,
            [
                "sum by (pod) (requests_total{app=\"web\",code=~\"5..\"})",
                "sum by (pod) (requests_total{app=\"web\"})"
            ]
        );
    }

    #[test]
    fn both_versions_and_the_labels_that_a_query_names_are_kept() {
        let stable = mark(Arm::Stable);
        let query = format!(
            "histogram_quantile(0.99, sum by (le, zone) (rate(seconds_bucket[1m]))) > on (zone) \
             histogram_quantile(0.99, sum by (le, zone) (rate(seconds_bucket{{v=\"{stable}\"}}[1m])))"
        );
        let (rule, all) = rule(&query);
        assert_eq!(all.len(), 1, "one selector is read once: {all:?}");
        assert_eq!(all[0].query("pod"), "sum by (pod, le, zone) (seconds_bucket)");
        let arms: Vec<_> = rule.series.iter().map(|named| (named.asked, named.arm)).collect();
        assert_eq!(arms, [(0, Arm::Canary), (0, Arm::Stable)]);
    }

    #[test]
    fn all_pods_but_the_canarys_are_the_stable_versions() {
        let canary = mark(Arm::Canary);
        let query = format!(
            "max(x{{pod=~\"web-{canary}-.*\"}}) / \
             max(x{{pod=~\"web-.*\",pod!~\"web-{canary}-.*\"}})"
        );
        let (rule, all) = rule(&query);
        assert_eq!(all.len(), 1, "{all:?}");
        let arms: Vec<_> = rule.series.iter().map(|named| named.arm).collect();
        assert_eq!(arms, [Arm::Canary, Arm::Stable]);
    }

    #[test]
    fn what_cannot_be_replayed_is_refused_with_the_reason() {
        let refused =
            |query: &str| Rule::of(query, "pod", &mut Vec::new()).unwrap_err().to_string();
        assert!(refused("sum without (pod) (x)").contains("write by (...)"));
        assert!(
            refused("label_replace(x, \"a\", \"b\", \"c\", \"d\")").contains("label_replace()")
        );
        assert!(refused("vector(1)").contains("selects no series"));
        assert!(refused("sum(").contains("not PromQL"));
        let raw = |query: &str| raw(query, "pod", false, &mut Vec::new());
        assert!(raw("rate(x[5m])").unwrap_err().to_string().contains("rate()"));
        assert_eq!(raw("(x{pod=~\"web-.*\"})"), Ok(0));
    }
}
