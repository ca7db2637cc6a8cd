//! The PromQL of a metric of a canary config, as Kayenta's Prometheus service builds it.
//!
//! A template (the metric's own, else a named one of the config) that begins with `PromQL:` is the
//! query; any other is a list of matchers for the metric's name, whose series are averaged. `${scope}`
//! and the like are filled in from the arm's scope. Kayenta fills templates in with FreeMarker; of that
//! only `${name}` is understood, the rest is refused by name. Refused too: other metric stores and the
//! resource types of machines.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::config::{CanaryConfig, KayentaMetric};

/// What stands for an arm in the templates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Values by name: `scope`, `location`, and what else the templates name.
    pub values: BTreeMap<String, String>,
}

/// A query and whether it tells the arms apart by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArmQuery {
    /// PromQL.
    pub text: String,
    /// It names the arm's scope, so that no matcher has to be added.
    pub scoped: bool,
}

/// Why a metric has no query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryConfigError {
    /// Another store.
    #[error("query.type is {0:?}; only prometheus is understood: rewrite the query in PromQL")]
    Store(String),
    /// It cannot be read.
    #[error("query cannot be read: {0}")]
    Unreadable(String),
    /// There is no query.
    #[error("query has neither metricName nor customInlineTemplate; write PromQL: and a query")]
    Empty,
    /// An old field.
    #[error("query.customFilter is what Kayenta itself refuses; use customInlineTemplate")]
    CustomFilter,
    /// A resource of a cloud.
    #[error(
        "query.resourceType {0:?} selects machines; leave it out: the pods of each version are selected"
    )]
    ResourceType(String),
    /// The named template does not exist.
    #[error("query.customFilterTemplate {0:?} is not among templates; add it there")]
    NoTemplate(String),
    /// A name without a value.
    #[error("${{{0}}} has no value; write it under kayenta.control and kayenta.experiment")]
    NoValue(String),
    /// More of FreeMarker than names.
    #[error("{0:?} is more of FreeMarker than ${{name}}; write the query without it")]
    FreeMarker(String),
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PrometheusQuery {
    #[serde(rename = "type")]
    type_: Option<String>,
    metric_name: Option<String>,
    resource_type: Option<String>,
    label_bindings: Option<Vec<String>>,
    group_by_fields: Option<Vec<String>>,
    custom_inline_template: Option<String>,
    custom_filter_template: Option<String>,
    custom_filter: Option<String>,
}

/// The query of one arm.
///
/// # Errors
/// When the metric is not for Prometheus or its template cannot be filled in.
pub fn query(
    config: &CanaryConfig,
    metric: &KayentaMetric,
    scope: &Scope,
) -> Result<ArmQuery, QueryConfigError> {
    let query = PrometheusQuery::deserialize(&metric.query)
        .map_err(|error| QueryConfigError::Unreadable(error.to_string()))?;
    let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if let Some(other) = filled(&query.type_).filter(|type_| type_ != "prometheus") {
        return Err(QueryConfigError::Store(other));
    }
    if query.custom_filter.is_some() {
        return Err(QueryConfigError::CustomFilter);
    }
    let template = match (filled(&query.custom_inline_template), &query.custom_filter_template) {
        (Some(own), _) => Some(own),
        (None, Some(name)) if !name.is_empty() => {
            let named = config.templates.get(name).cloned();
            Some(named.ok_or_else(|| QueryConfigError::NoTemplate(name.clone()))?)
        }
        (None, _) => None,
    };
    let mut scoped = false;
    let template = template.map(|text| fill(&text, scope, &mut scoped)).transpose()?;
    if let Some(promql) = template.as_deref().and_then(|text| text.strip_prefix("PromQL:")) {
        return Ok(ArmQuery { text: promql.trim().to_owned(), scoped });
    }
    let Some(name) = filled(&query.metric_name) else { return Err(QueryConfigError::Empty) };
    if let Some(machine) = filled(&query.resource_type).filter(|_| template.is_none()) {
        return Err(QueryConfigError::ResourceType(machine));
    }
    let bindings = query.label_bindings.unwrap_or_default();
    let matchers: Vec<String> =
        template.into_iter().filter(|text| !text.is_empty()).chain(bindings).collect();
    let selector = match matchers.is_empty() {
        true => name,
        false => format!("{name}{{{}}}", matchers.join(",")),
    };
    let groups = query.group_by_fields.unwrap_or_default();
    let by = if groups.is_empty() { String::new() } else { format!(" by ({})", groups.join(",")) };
    Ok(ArmQuery { text: format!("avg({selector}){by}"), scoped })
}

/// `${name}` replaced by the scope's values. Kayenta stores templates with `$\{`.
fn fill(template: &str, scope: &Scope, scoped: &mut bool) -> Result<String, QueryConfigError> {
    let template = template.replace("$\\{", "${");
    if let Some(at) = ["<#", "<@", "[#", "#{"].iter().find(|mark| template.contains(**mark)) {
        return Err(QueryConfigError::FreeMarker((*at).to_owned()));
    }
    let mut done = String::new();
    let mut rest = template.as_str();
    while let Some((before, after)) = rest.split_once("${") {
        let more = || QueryConfigError::FreeMarker(format!("${{{after}"));
        let (name, tail) = after.split_once('}').ok_or_else(more)?;
        let name = name.trim();
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(QueryConfigError::FreeMarker(format!("${{{name}}}")));
        }
        let value = scope.values.get(name);
        done.push_str(before);
        done.push_str(value.ok_or_else(|| QueryConfigError::NoValue(name.to_owned()))?);
        *scoped = true;
        rest = tail;
    }
    done.push_str(rest);
    Ok(done)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn asked(query: Value) -> Result<ArmQuery, String> {
        let config = CanaryConfig::read(&json!({
            "metrics": [{"name": "m", "query": query}],
            "templates": {"byPod": "pod=~\"${scope}-.*\",zone=\"$\\{location}\""},
        }))
        .unwrap();
        let values = [("scope", "web-7f9c"), ("location", "eu")];
        let values = values.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        super::query(&config, &config.metrics[0], &Scope { values }).map_err(|e| e.to_string())
    }

    #[test]
    fn a_complete_expression_is_taken_as_it_is() {
        let template = "PromQL:sum(rate(errors_total{pod=~\"${scope}-.*\"}[1m]))";
        let text = "sum(rate(errors_total{pod=~\"web-7f9c-.*\"}[1m]))".to_owned();
        let found = asked(json!({"type": "prometheus", "customInlineTemplate": template}));
        assert_eq!(found, Ok(ArmQuery { text, scoped: true }));
        let plain = asked(json!({"customInlineTemplate": "PromQL: sum(up)"})).unwrap();
        assert_eq!(plain, ArmQuery { text: "sum(up)".to_owned(), scoped: false });
    }

    #[test]
    fn a_metrics_name_with_matchers_is_averaged_and_grouped() {
        let query = json!({
            "type": "prometheus", "metricName": "cpu", "customFilterTemplate": "byPod",
            "labelBindings": ["mode=\"user\""], "groupByFields": ["zone", "pool"],
        });
        let text = "avg(cpu{pod=~\"web-7f9c-.*\",zone=\"eu\",mode=\"user\"}) by (zone,pool)";
        assert_eq!(asked(query), Ok(ArmQuery { text: text.to_owned(), scoped: true }));
        let bare = asked(json!({"metricName": "cpu"})).unwrap();
        assert_eq!(bare, ArmQuery { text: "avg(cpu)".to_owned(), scoped: false });
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        for (query, words) in [
            (json!({"type": "datadog", "metricName": "x"}), "only prometheus"),
            (json!({"customFilter": "a=b"}), "use customInlineTemplate"),
            (json!({"customFilterTemplate": "absent"}), "\"absent\" is not among templates"),
            (json!({"customInlineTemplate": "PromQL:x{a=\"${who}\"}"}), "${who} has no value"),
            (json!({"customInlineTemplate": "PromQL:x{a=\"${scope?upper_case}\"}"}), "FreeMarker"),
            (json!({"customInlineTemplate": "PromQL:<#if a>x</#if>"}), "FreeMarker"),
            (json!({"metricName": "x", "resourceType": "gce_instance"}), "selects machines"),
            (json!({}), "neither metricName"),
        ] {
            let refused = asked(query.clone()).unwrap_err();
            assert!(refused.contains(words), "{query}: {refused}");
        }
    }
}
