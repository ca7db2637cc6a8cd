//! The rules of a schema: expressions over `self` and `oldSelf`.

use serde_json::Value;

use super::{
    eval::{Env, EvalError, NO_VARIABLES},
    value::Val,
};

/// What a rule is about.
pub struct Rule<'a> {
    /// `self`.
    pub value: &'a Value,
    /// `oldSelf`.
    pub old: Option<&'a Value>,
    /// Whether `oldSelf` is an optional.
    pub optional_old: bool,
}

/// What a rule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleOutcome {
    /// The value obeys.
    Holds,
    /// The value does not.
    Broken,
    /// The rule has no boolean value.
    Failed(EvalError),
}

impl<'a> Rule<'a> {
    fn evaluate(&self, source: &str) -> Result<Val<'a>, EvalError> {
        let old = self.old.map(Val::borrowed);
        let old = if self.optional_old { Some(Val::Optional(old.map(Box::new))) } else { old };
        let roots = [Some(("self", Val::borrowed(self.value))), old.map(|old| ("oldSelf", old))];
        Env::new(roots.into_iter().flatten(), &NO_VARIABLES).evaluate(source)
    }

    /// Evaluates `rule`.
    #[must_use]
    pub fn holds(&self, source: &str) -> RuleOutcome {
        let value = self.evaluate(source);
        match value.and_then(|value| value.as_bool().ok_or_else(EvalError::overload)) {
            Ok(true) => RuleOutcome::Holds,
            Ok(false) => RuleOutcome::Broken,
            Err(error) => RuleOutcome::Failed(error),
        }
    }

    /// Evaluates `messageExpression`; one that fails has no text.
    #[must_use]
    pub fn text(&self, source: &str) -> Option<String> {
        self.evaluate(source).ok()?.as_str().map(str::to_owned)
    }
}
