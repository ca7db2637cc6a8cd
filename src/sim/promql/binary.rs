//! Binary operators: arithmetic, comparison and set operations, with vector matching.

use std::collections::{BTreeMap, BTreeSet};

use promql_parser::parser::token::{
    T_ADD, T_ATAN2, T_DIV, T_EQLC, T_GTE, T_GTR, T_LAND, T_LOR, T_LSS, T_LTE, T_MOD, T_MUL, T_NEQ,
    T_POW, T_SUB, TokenType,
};
use promql_parser::parser::{BinModifier, BinaryExpr, LabelModifier, VectorMatchCardinality};

use super::eval::{QueryError, Sample, Value, unique};
use super::labels::{Labels, NAME};

/// Applies the operator of `expr` to its evaluated sides.
pub(super) fn combine(expr: &BinaryExpr, left: Value, right: Value) -> Result<Value, QueryError> {
    let modifier = expr.modifier.clone().unwrap_or_default();
    if modifier.fill_values.lhs.is_some() || modifier.fill_values.rhs.is_some() {
        return Err(QueryError::Unsupported("the fill modifier".into()));
    }
    let op = Operator { token: expr.op, returns_bool: modifier.return_bool };
    match (left, right) {
        (Value::Scalar(l), Value::Scalar(r)) => Ok(Value::Scalar(op.scalars(l, r)?)),
        (Value::Vector(l), Value::Scalar(r)) => op.with_scalar(l, |v| (v, r)).map(Value::Vector),
        (Value::Scalar(l), Value::Vector(r)) => op.with_scalar(r, |v| (l, v)).map(Value::Vector),
        (Value::Vector(l), Value::Vector(r)) if expr.op.is_set_operator() => {
            Ok(Value::Vector(sets(expr.op, &modifier, l, r)))
        }
        (Value::Vector(l), Value::Vector(r)) => op.vectors(&modifier, l, r).map(Value::Vector),
        _ => Err(QueryError::Parse(format!(
            "operator {} needs scalars or instant vectors on both sides",
            expr.op
        ))),
    }
}

struct Operator {
    token: TokenType,
    returns_bool: bool,
}

/// What one pair of values gives.
enum Outcome {
    Number(f64),
    Holds(bool),
}

impl Operator {
    fn apply(&self, l: f64, r: f64) -> Result<Outcome, QueryError> {
        Ok(match self.token.id() {
            T_ADD => Outcome::Number(l + r),
            T_SUB => Outcome::Number(l - r),
            T_MUL => Outcome::Number(l * r),
            T_DIV => Outcome::Number(l / r),
            T_MOD => Outcome::Number(l % r),
            T_POW => Outcome::Number(l.powf(r)),
            T_ATAN2 => Outcome::Number(l.atan2(r)),
            T_EQLC => Outcome::Holds(l == r),
            T_NEQ => Outcome::Holds(l != r),
            T_LSS => Outcome::Holds(l < r),
            T_LTE => Outcome::Holds(l <= r),
            T_GTR => Outcome::Holds(l > r),
            T_GTE => Outcome::Holds(l >= r),
            _ => return Err(QueryError::Unsupported(format!("operator {}", self.token))),
        })
    }

    fn scalars(&self, l: f64, r: f64) -> Result<f64, QueryError> {
        Ok(match self.apply(l, r)? {
            Outcome::Number(value) => value,
            Outcome::Holds(holds) => f64::from(u8::from(holds)),
        })
    }

    /// `pair` puts the vector's value on its side of the operator.
    fn with_scalar(
        &self,
        vector: Vec<Sample>,
        pair: impl Fn(f64) -> (f64, f64),
    ) -> Result<Vec<Sample>, QueryError> {
        let mut result = Vec::new();
        for sample in vector {
            let (l, r) = pair(sample.value);
            if let Some(value) = self.kept(l, r, sample.value)? {
                result.push(Sample { labels: self.named(&sample.labels), value });
            }
        }
        unique(result.iter().map(|s| &s.labels))?;
        Ok(result)
    }

    /// The resulting value; none where a comparison filters the element out.
    fn kept(&self, l: f64, r: f64, original: f64) -> Result<Option<f64>, QueryError> {
        Ok(match self.apply(l, r)? {
            Outcome::Number(value) => Some(value),
            Outcome::Holds(holds) if self.returns_bool => Some(f64::from(u8::from(holds))),
            Outcome::Holds(true) => Some(original),
            Outcome::Holds(false) => None,
        })
    }

    /// Arithmetic and `bool` drop the metric's name; a filter keeps it.
    fn named(&self, labels: &Labels) -> Labels {
        if self.token.is_comparison_operator() && !self.returns_bool {
            labels.clone()
        } else {
            labels.without_name()
        }
    }

    fn vectors(
        &self,
        modifier: &BinModifier,
        left: Vec<Sample>,
        right: Vec<Sample>,
    ) -> Result<Vec<Sample>, QueryError> {
        let swapped = matches!(modifier.card, VectorMatchCardinality::OneToMany(_));
        let one_to_one = modifier.card == VectorMatchCardinality::OneToOne;
        let (many, one) = if swapped { (right, left) } else { (left, right) };
        let one = index(modifier, one, if swapped { "left" } else { "right" })?;
        let mut matched = BTreeSet::new();
        let mut result = Vec::new();
        for sample in &many {
            let key = signature(modifier, &sample.labels);
            let Some(partner) = one.get(&key) else { continue };
            let (l, r) =
                if swapped { (partner.value, sample.value) } else { (sample.value, partner.value) };
            let Some(value) = self.kept(l, r, l)? else { continue };
            let labels = self.result_labels(modifier, &sample.labels, &partner.labels);
            if one_to_one {
                if !matched.insert(key) {
                    return Err(QueryError::Execution(
                        "multiple matches for labels: many-to-one matching must be explicit \
                         (group_left/group_right)"
                            .into(),
                    ));
                }
            } else if !matched.insert(labels.clone()) {
                return Err(QueryError::Execution(
                    "multiple matches for labels: grouping labels must ensure unique matches"
                        .into(),
                ));
            }
            result.push(Sample { labels, value });
        }
        Ok(result)
    }

    fn result_labels(&self, modifier: &BinModifier, many: &Labels, one: &Labels) -> Labels {
        let mut labels =
            if self.token.is_comparison_operator() { many.clone() } else { many.without_name() };
        match &modifier.card {
            VectorMatchCardinality::OneToOne => match &modifier.matching {
                Some(LabelModifier::Include(on)) => labels = labels.only(&on.labels),
                Some(LabelModifier::Exclude(ignoring)) => {
                    labels = labels.retain(|l| !ignoring.labels.iter().any(|i| i == l));
                }
                None => {}
            },
            VectorMatchCardinality::ManyToOne(include)
            | VectorMatchCardinality::OneToMany(include) => {
                for label in &include.labels {
                    labels.set(label, one.get(label));
                }
            }
            VectorMatchCardinality::ManyToMany => {}
        }
        if self.returns_bool { labels.without_name() } else { labels }
    }
}

/// The labels by which two elements match.
fn signature(modifier: &BinModifier, labels: &Labels) -> Labels {
    match &modifier.matching {
        Some(LabelModifier::Include(on)) => labels.only(&on.labels),
        Some(LabelModifier::Exclude(ignoring)) => labels.except(&ignoring.labels),
        None => labels.retain(|label| label != NAME),
    }
}

fn index(
    modifier: &BinModifier,
    one: Vec<Sample>,
    side: &str,
) -> Result<BTreeMap<Labels, Sample>, QueryError> {
    let mut by_signature = BTreeMap::new();
    for sample in one {
        let key = signature(modifier, &sample.labels);
        let second = sample.labels.clone();
        if let Some(first) = by_signature.insert(key.clone(), sample) {
            return Err(QueryError::Execution(format!(
                "found duplicate series for the match group {key} on the {side} hand-side of the \
                 operation: [{second}, {}];many-to-many matching not allowed: matching labels must \
                 be unique on one side",
                first.labels
            )));
        }
    }
    Ok(by_signature)
}

fn sets(
    op: TokenType,
    modifier: &BinModifier,
    left: Vec<Sample>,
    right: Vec<Sample>,
) -> Vec<Sample> {
    let keys = |side: &[Sample]| -> BTreeSet<Labels> {
        side.iter().map(|s| signature(modifier, &s.labels)).collect()
    };
    if op.id() == T_LOR {
        let present = keys(&left);
        let added =
            right.into_iter().filter(|s| !present.contains(&signature(modifier, &s.labels)));
        return left.into_iter().chain(added).collect();
    }
    let present = keys(&right);
    let wanted = op.id() == T_LAND;
    left.into_iter()
        .filter(|s| present.contains(&signature(modifier, &s.labels)) == wanted)
        .collect()
}
