//! Outgoing calls, checked.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::duration::{self, duration};
use super::error::Errors;
use crate::api::DurationSpec;
use crate::api::common::SecretKeyRef;
use crate::api::rollout::{Canary, Hook, HookAuth, HookFailurePolicy, HookPoint, HookTls};

/// How long one call may take when nothing is said: Flagger's and Kusion's.
const TIMEOUT: SignedDuration = SignedDuration::from_secs(10);
/// The longest a call may take: whoever needs longer answers Processing.
const LONGEST: SignedDuration = SignedDuration::from_mins(5);
/// How long a decision may take in all when nothing is said.
const DEADLINE: SignedDuration = SignedDuration::from_hours(1);
/// The longest word of `metadata`: 32 of them fit into a body of 64 KiB.
const WORD: usize = 1_024;

/// A call that is made.
#[derive(Debug, Clone, PartialEq)]
pub struct HookPlan {
    /// Its name.
    pub name: String,
    /// When it is made.
    pub at: HookPoint,
    /// Where to.
    pub url: String,
    /// How long one call may take.
    pub timeout: SignedDuration,
    /// How long the decision may take in all.
    pub deadline: SignedDuration,
    /// How often a failed call is made again.
    pub retries: i32,
    /// A failed hook is passed over.
    pub ignore: bool,
    /// Sent along.
    pub metadata: BTreeMap<String, String>,
    /// The bearer token.
    pub bearer: Option<SecretKeyRef>,
    /// The key of the signature.
    pub signature: Option<SecretKeyRef>,
    /// The certificate authority.
    pub ca: Option<SecretKeyRef>,
}

impl HookPlan {
    /// The hooks of the strategy.
    pub(crate) fn parse_strategy(canary: &Canary, errors: &mut Errors) -> Vec<Self> {
        Self::parse_all(&canary.hooks, "spec.strategy.canary.hooks", errors)
    }

    /// The hooks of one step, which lie around that step and nothing else.
    pub(crate) fn parse_step(
        hooks: &[Hook],
        step: &str,
        canary: &Canary,
        errors: &mut Errors,
    ) -> Vec<Self> {
        let path = format!("{step}.hooks");
        for (i, hook) in hooks.iter().enumerate() {
            if !matches!(hook.at, HookPoint::BeforeStep | HookPoint::AfterStep) {
                let remedy = "a step's hooks are BeforeStep and AfterStep; move it to \
                              spec.strategy.canary.hooks";
                errors.invalid(format!("{path}[{i}].at"), &hook.at, remedy);
            }
            if canary.hooks.iter().any(|known| known.name == hook.name) {
                let remedy = "the strategy has a hook of this name; give each its own";
                errors.invalid(format!("{path}[{i}].name"), &hook.name, remedy);
            }
        }
        Self::parse_all(hooks, &path, errors)
    }

    fn parse_all(hooks: &[Hook], path: &str, errors: &mut Errors) -> Vec<Self> {
        for (i, hook) in hooks.iter().enumerate() {
            if hooks.iter().take(i).any(|known| known.name == hook.name) {
                let remedy = "two hooks have one name; give each its own";
                errors.invalid(format!("{path}[{i}].name"), &hook.name, remedy);
            }
        }
        let all = hooks.iter().enumerate();
        all.map(|(i, hook)| Self::parse(hook, &format!("{path}[{i}]"), errors)).collect()
    }

    fn parse(hook: &Hook, path: &str, errors: &mut Errors) -> Self {
        let Hook { name, at, url, timeout, deadline, .. } = hook;
        let Hook { retries, failure_policy, metadata, auth, tls, .. } = hook;
        let HookAuth { bearer, signature } = auth.clone().unwrap_or_default();
        let HookTls { ca } = tls.clone().unwrap_or_default();
        if !is_address(url) {
            let remedy = "must be http:// or https:// and a host, without credentials and fragment, \
                          such as https://gate.shop:8443/check";
            errors.invalid(format!("{path}.url"), url, remedy);
        }
        if ca.is_some() && url.starts_with("http://") {
            let remedy = "nothing is verified over http; write https in url, or leave it out";
            errors.invalid(format!("{path}.tls.ca"), &ca, remedy);
        }
        if let Some((key, _)) = metadata.iter().find(|(k, v)| k.len() > WORD || v.len() > WORD) {
            let remedy = format!("has a word of more than {WORD} bytes; shorten it");
            errors.invalid(format!("{path}.metadata"), key, remedy);
        }
        if retries.is_some_and(|n| !(0..=10).contains(&n)) {
            errors.invalid(format!("{path}.retries"), retries, "must be from 0 to 10");
        }
        Self {
            name: name.clone(),
            at: *at,
            url: url.clone(),
            timeout: span(timeout.as_ref(), TIMEOUT, LONGEST, &format!("{path}.timeout"), errors),
            deadline: span(
                deadline.as_ref(),
                DEADLINE,
                SignedDuration::MAX,
                &format!("{path}.deadline"),
                errors,
            ),
            retries: retries.unwrap_or(0),
            ignore: failure_policy.unwrap_or_default() == HookFailurePolicy::Ignore,
            metadata: metadata.clone(),
            bearer,
            signature,
            ca,
        }
    }

    /// A release waits for its answer.
    #[must_use]
    pub fn holds(&self) -> bool {
        match self.at {
            HookPoint::BeforeRollout
            | HookPoint::BeforeStep
            | HookPoint::AfterStep
            | HookPoint::BeforePromotion => true,
            HookPoint::AfterRollout | HookPoint::OnRollback | HookPoint::Event => false,
        }
    }
}

fn is_address(url: &str) -> bool {
    let Ok(parsed) = url.parse::<http::Uri>() else { return false };
    let scheme = matches!(parsed.scheme_str(), Some("http" | "https"));
    let host =
        parsed.authority().is_some_and(|a| !a.as_str().contains('@') && !a.host().is_empty());
    scheme && host && !url.contains('#') && !url.contains("{{")
}

fn span(
    spec: Option<&DurationSpec>,
    default: SignedDuration,
    longest: SignedDuration,
    path: &str,
    errors: &mut Errors,
) -> SignedDuration {
    let Some(spec) = spec else { return default };
    match duration(spec).filter(|span| span.is_positive() && *span <= longest) {
        Some(span) => span,
        None => {
            let most = if longest == SignedDuration::MAX {
                String::new()
            } else {
                format!(" and at most {longest:#}: who needs longer answers Processing")
            };
            errors.invalid(path, spec, format!("{}, above 0{most}", duration::REMEDY));
            default
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn errors_of(hooks: Value, step: bool) -> Vec<String> {
        let canary: Canary = serde_json::from_value(json!({
            "hooks": [{"name": "all", "at": "BeforeRollout", "url": "http://a"}],
        }))
        .unwrap();
        let hooks: Vec<Hook> = serde_json::from_value(hooks).unwrap();
        let mut errors = Errors::default();
        if step {
            HookPlan::parse_step(&hooks, "steps[0]", &canary, &mut errors);
        } else {
            HookPlan::parse_strategy(&Canary { hooks, ..canary }, &mut errors);
        }
        errors.into_inner().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_left_out_is_flaggers_and_kusions() {
        let canary: Canary = serde_json::from_value(json!({
            "hooks": [{"name": "a", "at": "BeforeStep", "url": "https://a.b:8443/c?d=e"}],
        }))
        .unwrap();
        let mut errors = Errors::default();
        let hooks = HookPlan::parse_strategy(&canary, &mut errors);
        assert_eq!(errors.into_inner(), []);
        let [hook] = hooks.as_slice() else { panic!("{hooks:?}") };
        assert_eq!((hook.timeout.as_secs(), hook.deadline.as_secs()), (10, 3_600));
        assert_eq!((hook.retries, hook.ignore, hook.holds()), (0, false, true));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_path_and_remedy() {
        for (hook, step, says) in [
            (json!({"url": "ftp://a"}), false, "hooks[0].url"),
            (json!({"url": "http://user:pass@a"}), false, "without credentials"),
            (json!({"url": "http://a/#b"}), false, "hooks[0].url"),
            (json!({"url": "http://{{args.a}}/"}), false, "hooks[0].url"),
            (json!({"timeout": "6m"}), false, "answers Processing"),
            (json!({"timeout": 0}), false, "above 0"),
            (json!({"deadline": "never"}), false, "hooks[0].deadline"),
            (json!({"retries": 11}), false, "from 0 to 10"),
            (json!({"tls": {"ca": {"name": "a", "key": "b"}}}), false, "nothing is verified"),
            (json!({"metadata": {"k": "x".repeat(2_000)}}), false, "more than 1024 bytes"),
            (json!({"at": "OnRollback"}), true, "move it to spec.strategy.canary.hooks"),
            (json!({"name": "all"}), true, "the strategy has a hook of this name"),
        ] {
            let mut whole = json!({"name": "a", "at": "BeforeStep", "url": "http://a"});
            for (key, value) in hook.as_object().unwrap() {
                whole[key] = value.clone();
            }
            let errors = errors_of(json!([whole]), step);
            assert!(errors.len() == 1 && errors[0].contains(says), "{hook}: {errors:?}");
        }
        let twice = json!([{"name": "a", "at": "Event", "url": "http://a"},
                           {"name": "a", "at": "AfterStep", "url": "http://b"}]);
        let errors = errors_of(twice, false);
        assert!(errors[0].contains("two hooks have one name"), "{errors:?}");
    }
}
