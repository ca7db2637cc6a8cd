//! The small schemas that many fields share: names, percentages, numbers of pods, spans of time.
//!
//! What may be a number or text is bounded by keywords (`minimum`, `pattern`), not by CEL: the API
//! server estimates the cost of text of unknown length, and a rule on it inside a list is refused.

use kube::core::Rule;
use schemars::{Schema, SchemaGenerator, json_schema};

/// The pattern of a span written as text.
pub(crate) const SPAN: &str = r"^([0-9]+|([0-9]+(\.[0-9]+)?(ms|s|m|h|d|w))+)$";

/// Seconds, or text such as `1h30m`.
pub(crate) fn span(_: &mut SchemaGenerator) -> Schema {
    number_or_text(0, SPAN, 32)
}

/// The same, or text with an argument such as `{{args.interval}}`.
pub(crate) fn span_or_arg(_: &mut SchemaGenerator) -> Schema {
    number_or_text(0, r"^([0-9]+|([0-9]+(\.[0-9]+)?(ms|s|m|h|d|w))+|.*\{\{.*\}\}.*)$", 256)
}

/// A number of pods above 0, or a percentage from 1 to 100.
pub(crate) fn pods(_: &mut SchemaGenerator) -> Schema {
    number_or_text(1, "^([1-9][0-9]?|100)%$", 4)
}

/// A number of pods, or a percentage.
pub(crate) fn tolerance(_: &mut SchemaGenerator) -> Schema {
    number_or_text(0, "^([0-9]|[1-9][0-9]|100)%$", 4)
}

/// A count that may be an argument, 0 or more.
pub(crate) fn count_or_arg(_: &mut SchemaGenerator) -> Schema {
    number_or_text(0, r"^([0-9]+|.*\{\{.*\}\}.*)$", 256)
}

/// A limit that may be an argument, -1 or more.
pub(crate) fn limit_or_arg(_: &mut SchemaGenerator) -> Schema {
    number_or_text(-1, r"^(-1|[0-9]+|.*\{\{.*\}\}.*)$", 256)
}

fn number_or_text(minimum: i64, pattern: &str, longest: u32) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "minimum": minimum,
        "pattern": pattern,
        "maxLength": longest,
    })
}

/// The name of an object.
pub(crate) fn object_name(_: &mut SchemaGenerator) -> Schema {
    named(253, r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
}

/// The names of a few objects, each once.
pub(crate) fn object_names(generator: &mut SchemaGenerator) -> Schema {
    let name = object_name(generator);
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "set",
        "items": name,
    })
}

/// The name of a Service or a step: a DNS label.
pub(crate) fn label_name(_: &mut SchemaGenerator) -> Schema {
    named(63, "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
}

/// A name that people and `{{args.NAME}}` use.
pub(crate) fn word(_: &mut SchemaGenerator) -> Schema {
    named(63, "^[A-Za-z0-9_]([-A-Za-z0-9_. ]*[A-Za-z0-9_])?$")
}

fn named(longest: u32, pattern: &str) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": longest, "pattern": pattern})
}

/// `http://` or `https://` and a host, or an argument.
pub(crate) fn address(_: &mut SchemaGenerator) -> Schema {
    named(2048, r"^(https?://[^/\s]+.*|.*\{\{.*\}\}.*)$")
}

/// `http://` or `https://` and a host.
pub(crate) fn hook_address(_: &mut SchemaGenerator) -> Schema {
    named(2048, r"^https?://[^/?#@\s]+([/?][^#\s]*)?$")
}

/// An expression or query of some length.
pub(crate) fn query(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 16384})
}

/// The name of a label in a metric server, or an argument.
pub(crate) fn series_label(_: &mut SchemaGenerator) -> Schema {
    named(253, r"^([A-Za-z_][A-Za-z0-9_]*|.*\{\{.*\}\}.*)$")
}

/// An expression over `result`.
pub(crate) fn condition(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "maxLength": 4096})
}

/// A name that a header or cookie may have.
pub(crate) fn token(_: &mut SchemaGenerator) -> Schema {
    named(256, "^[A-Za-z0-9!#$%&'*+\\-.^_|~]+$")
}

/// Five fields of a crontab.
pub(crate) fn cron(_: &mut SchemaGenerator) -> Schema {
    named(128, r"^\S+(\s+\S+){4}$")
}

/// `N%` from 0 to 100 in a text field.
pub(crate) fn percent_rule() -> Rule {
    Rule::new("self.matches('^([0-9]|[1-9][0-9]|100)%$')")
        .message("must be a percentage such as 10%, from 0% to 100%")
}

/// The weight of a step is not below that of the step before.
pub(crate) fn rising_traffic() -> Rule {
    let share = |i| format!("int(self.steps[{i}].traffic.replace('%', ''))");
    let written = |i| {
        format!("(!has(self.steps[{i}].traffic) || !self.steps[{i}].traffic.matches('^[0-9]+%$'))")
    };
    let rule = format!(
        "{} || {} || {} <= {})",
        each_pair(),
        [written("i"), written("i + 1")].join(" || "),
        share("i"),
        share("i + 1"),
    );
    Rule::new(rule).message("traffic must not go down from one step to the next")
}

/// The pods of a step are not fewer than those of the step before, where both are numbers.
pub(crate) fn rising_replicas() -> Rule {
    let number =
        |i| format!("(!has(self.steps[{i}].replicas) || type(self.steps[{i}].replicas) != int)");
    let rule = format!(
        "{} || {} || self.steps[i].replicas <= self.steps[i + 1].replicas)",
        each_pair(),
        [number("i"), number("i + 1")].join(" || "),
    );
    Rule::new(rule).message("replicas must not go down from one step to the next")
}

/// No two routings name one route.
pub(crate) fn routes_once() -> Rule {
    // A list that has none of the other's names: one field on the left, one on the right.
    let apart = |kind: &str| {
        let (one, many) = (format!("{kind}RouteName"), format!("{kind}RouteNames"));
        let has = |routing: &str, field: &str| format!("!has({routing}.gateway.{field})");
        let lists = format!(
            "({} || {} || !a.gateway.{many}.exists(n, n in b.gateway.{many}))",
            has("a", &many),
            has("b", &many),
        );
        if kind == "grpc" {
            return lists;
        }
        format!(
            "({} || {} || a.gateway.{one} != b.gateway.{one}) && \
             ({} || {} || !(a.gateway.{one} in b.gateway.{many})) && {lists}",
            has("a", &one),
            has("b", &one),
            has("a", &one),
            has("b", &many),
        )
    };
    let rule = format!(
        "!has(self.trafficRoutings) || self.trafficRoutings.all(a, self.trafficRoutings.all(b, \
         a.service == b.service || !has(a.gateway) || !has(b.gateway) || ({} && {})))",
        apart("http"),
        apart("grpc"),
    );
    Rule::new(rule)
        .message("a route is named by two trafficRoutings; give each Service a route of its own")
}

/// There is room for `-canary`.
pub(crate) fn service_length() -> Rule {
    Rule::new("size(self.service) <= 56").message(
        "service may have 56 characters at most: the Service NAME-canary beside it may have 63",
    )
}

/// The beginning of a rule on each two neighbouring steps: CEL has no ranges on older servers, so
/// the 49 indices are written out.
fn each_pair() -> String {
    let indices: Vec<String> = (0..49).map(|i| i.to_string()).collect();
    format!("!has(self.steps) || [{}].all(i, i + 1 >= size(self.steps)", indices.join(", "))
}
