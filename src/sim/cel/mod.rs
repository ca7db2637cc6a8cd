//! Mutating and validating admission policies, evaluated as Kubernetes 1.36 does, for the in-memory
//! API server, and the expression language under them.
//!
//! Nothing here knows Sluice's own policies: a gated Deployment comes back paused because the
//! policy, its binding and the Gate say so. Start at [`mutate`] and [`validate`]; the rules of a
//! schema are [`Rule`]s.
//!
//! Refused: parameters by selector, `authorizer`, conversion between versions (`matching`), and
//! what `eval` and `merge` name.

mod admission;
mod eval;
mod functions;
mod matching;
mod merge;
mod policy;
mod rule;
mod value;

#[cfg(test)]
mod tests;

pub use admission::{
    AdmissionRequest, FindParam, MutateOutcome, Policies, ValidateOutcome, concern, mutate,
    parse_errors, parses, validate,
};
pub use eval::EvalError;
pub use rule::{Rule, RuleOutcome};

pub(crate) use functions::regex;
pub(crate) use matching::selects;
