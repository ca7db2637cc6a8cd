//! The state of any object of the run's namespace: a condition, or a part of its JSON.
//!
//! A condition that is `True` (or what the metric says) is a success, another status a failure; one
//! that is missing, `Unknown` or of an older generation is no data. Refused: Secrets.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use serde_json::Value;

use super::ProviderError;
use super::jsonpath::JsonPath;
use crate::analysis::{ObjectAsk, Outcome, Query, Sample};
use crate::api::AnalysisPhase;

/// How long the API server may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the object once.
pub(super) async fn measure(
    client: &kube::Client,
    ask: &ObjectAsk,
    query: &Query,
) -> Result<Outcome, ProviderError> {
    let ObjectAsk { api_version, kind, plural, name, .. } = ask;
    // What is no name would ask for another path than it says.
    let is_name = |text: &str| !text.contains(['/', '?', '#', '%']);
    let version = api_version.replacen('/', "", 1);
    if ![&version, plural.as_ref().unwrap_or(kind), name].into_iter().all(|text| is_name(text)) {
        let message = format!("provider.object: {api_version} {kind} {name:?} is no object's name");
        return Err(ProviderError::Misconfigured(message));
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let gvk = GroupVersionKind::gvk(group, version, kind);
    let resource = match plural {
        Some(plural) => ApiResource::from_gvk_with_plural(&gvk, plural),
        None => ApiResource::from_gvk(&gvk),
    };
    let at = format!("{kind} {name:?} in namespace {:?}", query.namespace);
    if group.is_empty() && resource.plural.eq_ignore_ascii_case("secrets") {
        let message = format!("{at}: a Secret is not read for a metric");
        return Err(ProviderError::Misconfigured(message));
    }
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &query.namespace, &resource);
    let answered = tokio::time::timeout(TIMEOUT, api.get(name)).await;
    let late = |_| ProviderError::Timeout(format!("{at}: the API server did not answer"));
    let object = match answered.map_err(late)? {
        Ok(object) => serde_json::to_value(object).unwrap_or_default(),
        Err(kube::Error::Api(status)) => {
            let said = format!("{at}: {}", status.message);
            return Err(match status.code {
                403 => ProviderError::Misconfigured(format!(
                    "{said}: give the controller's service account `get` on {} there",
                    resource.plural
                )),
                404 => ProviderError::Refused(format!("{said}: create it, or correct the name")),
                500.. => ProviderError::Server(said),
                _ => ProviderError::Refused(said),
            });
        }
        Err(error) => return Err(ProviderError::Unreachable(format!("{at}: {error}"))),
    };
    decide(ask, &object).map_err(|why| ProviderError::Misconfigured(format!("{at}: {why}")))
}

/// What an object says.
fn decide(ask: &ObjectAsk, object: &Value) -> Result<Outcome, String> {
    let Some(wanted) = &ask.condition else {
        let path = JsonPath::parse(&ask.json_path)?;
        let found = path.find(object).cloned();
        return Ok(Outcome::from(found.map_or(Sample::Empty, Sample::Json)));
    };
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let text = |condition: &Value, name: &str| {
        condition.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let found = conditions.into_iter().flatten().find(|c| text(c, "type") == *wanted);
    let generation = object.pointer("/metadata/generation").and_then(Value::as_i64);
    let current = |condition: &&Value| {
        let seen = condition.get("observedGeneration").and_then(Value::as_i64);
        let seen = seen.or_else(|| object.pointer("/status/observedGeneration")?.as_i64());
        seen.zip(generation).is_none_or(|(seen, generation)| seen >= generation)
    };
    let known = found.filter(current).filter(|condition| text(condition, "status") != "Unknown");
    let Some(condition) = known else { return Ok(Outcome::from(Sample::Empty)) };
    let status = text(condition, "status");
    let phase = match status == ask.status {
        true => AnalysisPhase::Successful,
        false => AnalysisPhase::Failed,
    };
    let (reason, message) = (text(condition, "reason"), text(condition, "message"));
    let message = format!("{wanted} is {status}: {reason}: {message}");
    let message = Some(message.trim_end_matches([':', ' ']).to_owned());
    Ok(Outcome::Ended { phase, message, notes: BTreeMap::new() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ask(condition: Option<&str>, json_path: &str) -> ObjectAsk {
        ObjectAsk {
            condition: condition.map(str::to_owned),
            status: "True".to_owned(),
            json_path: json_path.to_owned(),
            ..ObjectAsk::default()
        }
    }

    fn object(status: &str, seen: i64) -> Value {
        json!({
            "metadata": {"generation": 3},
            "spec": {"replicas": 4},
            "status": {"observedGeneration": seen, "conditions": [
                {"type": "Other", "status": "False"},
                {"type": "Ready", "status": status, "reason": "Why", "message": "so"},
            ]},
        })
    }

    #[test]
    fn a_condition_is_a_success_a_failure_or_no_data() {
        let phase = |object: &Value| match decide(&ask(Some("Ready"), ""), object).unwrap() {
            Outcome::Ended { phase, message, .. } => (Some(phase), message),
            Outcome::Answer { sample, .. } => {
                assert_eq!(sample, Sample::Empty);
                (None, None)
            }
            other => panic!("{other:?}"),
        };
        let said = |text: &str| Some(text.to_owned());
        assert_eq!(
            phase(&object("True", 3)),
            (Some(AnalysisPhase::Successful), said("Ready is True: Why: so"))
        );
        assert_eq!(
            phase(&object("False", 3)),
            (Some(AnalysisPhase::Failed), said("Ready is False: Why: so"))
        );
        for nothing in [object("Unknown", 3), object("True", 2), json!({}), json!({"status": {}})] {
            assert_eq!(phase(&nothing), (None, None), "{nothing}");
        }
    }

    #[test]
    fn a_part_of_the_object_is_what_the_conditions_judge() {
        let found = decide(&ask(None, "{.spec.replicas}"), &object("True", 3)).unwrap();
        assert_eq!(found, Outcome::from(Sample::Json(json!(4))));
        let missing = decide(&ask(None, "{.spec.nothing}"), &object("True", 3)).unwrap();
        assert_eq!(missing, Outcome::from(Sample::Empty));
        assert!(decide(&ask(None, "{.spec[}"), &object("True", 3)).is_err());
    }
}
