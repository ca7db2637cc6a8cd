//! Which series are the canary's and which the stable version's: a matcher that is added to every
//! selector of a query.
//!
//! Where series carry a pod label, the pods of a revision are told by their names: a ReplicaSet's
//! pods begin with its name, which ends in the revision's hash. Elsewhere the template names a label
//! and its two values. Refused, with the reason: revisions whose pods have the same names (a
//! StatefulSet's) without such a label, a query that names one pod itself, and for judges of raw
//! series a query that is more than a selector, because `rate()` hides resets and adds what was never
//! counted.

use promql_parser::label::{MatchOp, Matcher, Matchers};
use promql_parser::parser::{self, Expr, VectorSelector};

/// The label that carries a pod's name unless the template says otherwise.
pub const POD_LABEL: &str = "pod";

/// One of the two versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arm {
    /// The new version.
    Canary,
    /// The stable version.
    Stable,
}

/// How the arms are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arms {
    label: String,
    canary: Pattern,
    stable: Pattern,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Is(String),
    Matches(String),
}

/// Why a query has no arms.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArmsError {
    /// Both arms would be the same series.
    #[error(
        "nothing tells the arms apart: {why}; write under compare.arms a label that the two versions \
         have with different values: {{label: version, canary: ..., stable: ...}}"
    )]
    NotApart {
        /// What was tried.
        why: String,
    },
    /// No label can have this name.
    #[error("{0:?} is no label name; write letters, digits and _, as in pod or version")]
    Label(String),
    /// It does not parse.
    #[error("not PromQL: {0}")]
    Parse(String),
    /// There is nothing to add a matcher to.
    #[error("{0:?} selects no series")]
    NoSelector(String),
    /// The query already says which pod.
    #[error(
        "the query has {found}, which leaves no room for two arms; take that matcher out, it is added \
         for each arm"
    )]
    Taken {
        /// The matcher.
        found: String,
    },
    /// Alternatives of matchers, which Prometheus itself does not know.
    #[error("{0:?} has `or` between matchers, to which an arm cannot be added; write two queries")]
    Or(String),
    /// More than a selector.
    #[error(
        "{query:?} is not a raw series but has {found}; write the bare counter, bucket or gauge: the \
         judge sums and differences it itself"
    )]
    NotRaw {
        /// The query.
        query: String,
        /// What is too much.
        found: String,
    },
}

impl Arms {
    /// By the revisions' hashes in the names of their pods, whatever the workload is called.
    ///
    /// # Errors
    /// When the revisions have one hash, or none.
    pub fn by_hashes(label: &str, canary: &str, stable: &str) -> Result<Self, ArmsError> {
        if canary.is_empty() || stable.is_empty() {
            let why = "a pod's name does not say its revision".to_owned();
            return Err(ArmsError::NotApart { why });
        }
        let pattern = |hash: &str| Pattern::Matches(format!(".+-{}-.*", literal(hash)));
        Self::new(label, pattern(canary), pattern(stable))
    }

    /// All pods of a Deployment, of whatever revision, in both arms: for its past.
    ///
    /// # Errors
    /// When no label has this name.
    pub fn of_workload(label: &str, workload: &str) -> Result<Self, ArmsError> {
        let pods = Pattern::Matches(format!("{}-[a-z0-9]+-[a-z0-9]+", literal(workload)));
        let nobody = Pattern::Is(String::new());
        let arms = Self::new(label, nobody, pods)?;
        Ok(Self { canary: arms.stable.clone(), ..arms })
    }

    /// By a label that the two versions have with different values.
    ///
    /// # Errors
    /// When the values are the same.
    pub fn by_label(label: &str, canary: &str, stable: &str) -> Result<Self, ArmsError> {
        Self::new(label, Pattern::Is(canary.to_owned()), Pattern::Is(stable.to_owned()))
    }

    fn new(label: &str, canary: Pattern, stable: Pattern) -> Result<Self, ArmsError> {
        let first = label.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !first || !label.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(ArmsError::Label(label.to_owned()));
        }
        if canary == stable {
            let why = format!("both have {label} {}", canary.text());
            return Err(ArmsError::NotApart { why });
        }
        Ok(Self { label: label.to_owned(), canary, stable })
    }

    /// The query of one arm: the matcher added to every selector in it.
    ///
    /// # Errors
    /// When the query does not parse or has no room for arms.
    pub fn select(&self, query: &str, arm: Arm) -> Result<String, ArmsError> {
        let mut expr = parser::parse(query).map_err(ArmsError::Parse)?;
        let mut added = 0;
        self.add(&mut expr, arm, &mut added)?;
        if added == 0 {
            return Err(ArmsError::NoSelector(query.to_owned()));
        }
        Ok(expr.to_string())
    }

    /// The query of one arm for a judge of raw series: one series for each set of values of the
    /// labels in `keep`, of which the first tell pods apart.
    ///
    /// # Errors
    /// When the query is more than a selector, or as for [`Arms::select`].
    pub fn select_raw(&self, query: &str, arm: Arm, keep: &[&str]) -> Result<String, ArmsError> {
        let expr = parser::parse(query).map_err(ArmsError::Parse)?;
        if let Some(found) = more_than_selector(&expr) {
            return Err(ArmsError::NotRaw { query: query.to_owned(), found });
        }
        Ok(format!("sum by ({}) ({})", keep.join(", "), self.select(query, arm)?))
    }

    fn add(&self, expr: &mut Expr, arm: Arm, added: &mut usize) -> Result<(), ArmsError> {
        match expr {
            Expr::VectorSelector(selector) => {
                *added += 1;
                self.add_to(selector, arm)
            }
            Expr::MatrixSelector(matrix) => {
                *added += 1;
                self.add_to(&mut matrix.vs, arm)
            }
            Expr::Aggregate(aggregate) => {
                if let Some(param) = &mut aggregate.param {
                    self.add(param, arm, added)?;
                }
                self.add(&mut aggregate.expr, arm, added)
            }
            Expr::Unary(unary) => self.add(&mut unary.expr, arm, added),
            Expr::Binary(binary) => {
                self.add(&mut binary.lhs, arm, added)?;
                self.add(&mut binary.rhs, arm, added)
            }
            Expr::Paren(paren) => self.add(&mut paren.expr, arm, added),
            Expr::Subquery(subquery) => self.add(&mut subquery.expr, arm, added),
            Expr::Call(call) => {
                for arg in &mut call.args.args {
                    self.add(arg, arm, added)?;
                }
                Ok(())
            }
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => Ok(()),
        }
    }

    fn add_to(&self, selector: &mut VectorSelector, arm: Arm) -> Result<(), ArmsError> {
        let Matchers { matchers, or_matchers } = &mut selector.matchers;
        if !or_matchers.is_empty() {
            return Err(ArmsError::Or(selector.to_string()));
        }
        let fixed = |m: &&Matcher| m.name == self.label && m.op == MatchOp::Equal;
        if let Some(found) = matchers.iter().find(fixed) {
            return Err(ArmsError::Taken { found: found.to_string() });
        }
        let pattern = match arm {
            Arm::Canary => &self.canary,
            Arm::Stable => &self.stable,
        };
        matchers.push(pattern.matcher(&self.label)?);
        Ok(())
    }
}

impl Pattern {
    fn text(&self) -> &str {
        match self {
            Self::Is(text) | Self::Matches(text) => text,
        }
    }

    fn matcher(&self, label: &str) -> Result<Matcher, ArmsError> {
        let op = match self {
            Self::Is(_) => MatchOp::Equal,
            Self::Matches(text) => {
                let whole = regex::Regex::new(&format!("^(?:{text})$"));
                MatchOp::Re(whole.map_err(|error| ArmsError::Parse(error.to_string()))?)
            }
        };
        Ok(Matcher::new(op, label, self.text()))
    }
}

/// A name as a regular expression: of the characters that names may have only the dot means
/// something.
fn literal(name: &str) -> String {
    name.replace('.', "\\.")
}

/// What is in a query besides a selector.
pub(super) fn more_than_selector(expr: &Expr) -> Option<String> {
    match expr {
        Expr::VectorSelector(_) => None,
        Expr::Paren(paren) => more_than_selector(&paren.expr),
        Expr::Call(call) => Some(format!("{}()", call.func.name)),
        Expr::Aggregate(aggregate) => Some(format!("{}()", aggregate.op)),
        Expr::MatrixSelector(_) | Expr::Subquery(_) => Some("a range".to_owned()),
        Expr::Binary(binary) => Some(format!("the operator {}", binary.op)),
        Expr::Unary(_) => Some("a sign".to_owned()),
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => {
            Some("a constant".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web() -> Arms {
        Arms::by_hashes(POD_LABEL, "7f9c", "5d4b").unwrap()
    }

    #[test]
    fn every_selector_of_a_query_gets_the_matcher_of_the_arm() {
        let query = r#"sum(rate(errors_total{app="web"}[5m])) / scalar(sum(rate(all_total[5m] offset 1m)))"#;
        let canary = web().select(query, Arm::Canary).unwrap();
        assert_eq!(
            canary,
            "sum(rate(errors_total{app=\"web\",pod=~\".+-7f9c-.*\"}[5m])) / \
             scalar(sum(rate(all_total{pod=~\".+-7f9c-.*\"}[5m] offset 1m)))"
        );
        let stable = web().select(query, Arm::Stable).unwrap();
        assert_eq!(stable.matches("pod=~\".+-5d4b-.*\"").count(), 2);
        assert_eq!(parser::parse(&stable).unwrap().to_string(), stable, "it parses again");
        let nested = r#"topk(scalar(k), max_over_time(x[5m:1m])) or -(y)"#;
        assert_eq!(web().select(nested, Arm::Canary).unwrap().matches(".+-7f9c").count(), 3);
    }

    #[test]
    fn a_raw_selector_is_summed_per_pod() {
        let query = r#"http_requests_total{app="web",code=~"5.."}"#;
        assert_eq!(
            web().select_raw(query, Arm::Canary, &[POD_LABEL]).unwrap(),
            "sum by (pod) (http_requests_total{app=\"web\",code=~\"5..\",pod=~\".+-7f9c-.*\"})"
        );
        let buckets = web().select_raw("(latency_bucket)", Arm::Stable, &[POD_LABEL, "le"]);
        assert_eq!(buckets.unwrap(), "sum by (pod, le) ((latency_bucket{pod=~\".+-5d4b-.*\"}))");
        for (query, found) in [
            ("rate(x[5m])", "rate()"),
            ("sum(x)", "sum()"),
            ("x + y", "the operator +"),
            ("-x", "a sign"),
            ("1", "a constant"),
        ] {
            let refused = web().select_raw(query, Arm::Canary, &[POD_LABEL]);
            let (query, found) = (query.to_owned(), found.to_owned());
            assert_eq!(refused, Err(ArmsError::NotRaw { query, found }));
        }
    }

    #[test]
    fn names_are_matched_literally() {
        let dotted = Arms::by_hashes("kubernetes_pod_name", "7f.9c", "5d4b").unwrap();
        let query = dotted.select("x", Arm::Canary).unwrap();
        assert_eq!(query, r#"x{kubernetes_pod_name=~".+-7f\\.9c-.*"}"#);
        let service = Arms::by_label("service", "web-canary", "web").unwrap();
        assert_eq!(service.select("x", Arm::Stable).unwrap(), "x{service=\"web\"}");
    }

    #[test]
    fn the_past_of_a_workload_is_that_of_all_its_revisions_and_of_no_other_workload() {
        let past = Arms::of_workload(POD_LABEL, "web").unwrap();
        let query = past.select_raw("x", Arm::Stable, &[POD_LABEL]).unwrap();
        assert_eq!(query, r#"sum by (pod) (x{pod=~"web-[a-z0-9]+-[a-z0-9]+"})"#);
        let pods = regex::Regex::new("^(?:web-[a-z0-9]+-[a-z0-9]+)$").unwrap();
        assert!(pods.is_match("web-5d4b7f9c8-x2x9z") && pods.is_match("web-7f9c-abcde"));
        assert!(!pods.is_match("web-api-5d4b7f9c8-x2x9z") && !pods.is_match("web-0"));
        assert!(Arms::of_workload("1", "web").is_err());
    }

    #[test]
    fn what_cannot_be_told_apart_is_refused_with_the_reason() {
        let apart = |arms: Result<Arms, ArmsError>| arms.unwrap_err().to_string();
        for (refused, reason) in [
            (apart(Arms::by_hashes(POD_LABEL, "", "5d4b")), "does not say its revision"),
            (apart(Arms::by_hashes(POD_LABEL, "5d4b", "5d4b")), "both have pod"),
            (apart(Arms::by_label("version", "1", "1")), "both have version 1"),
            (apart(Arms::by_label("1 or", "1", "2")), "is no label name"),
        ] {
            assert!(refused.contains(reason), "{refused}");
        }
        let select = |query: &str| web().select(query, Arm::Canary).unwrap_err();
        assert_eq!(
            select(r#"x{pod="web-7f9c-abc"}"#),
            ArmsError::Taken { found: "pod=\"web-7f9c-abc\"".to_owned() }
        );
        assert_eq!(select("vector(1)"), ArmsError::NoSelector("vector(1)".to_owned()));
        assert!(matches!(select("x{"), ArmsError::Parse(_)));
        assert!(matches!(select(r#"x{a="1" or b="2"}"#), ArmsError::Or(_)));
    }
}
