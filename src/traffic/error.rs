//! Why a route or a Service cannot be used, where, and what to do about it.

/// Why a route cannot be split as asked.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum RouteError {
    /// There are no rules.
    #[error("{route}: spec.rules is missing or not a list; give the route a rule for the service")]
    NoRules {
        /// The route.
        route: String,
    },
    /// No rule sends to the service.
    #[error(
        "{route}: no rule has a backendRef to Service {service}; add one, or correct \
         trafficRoutings[].service"
    )]
    NotRouted {
        /// The route.
        route: String,
        /// The service.
        service: String,
    },
    /// The named rule is missing or sends elsewhere.
    #[error(
        "{route}: no rule named {rule} has a backendRef to Service {service}; correct \
         gateway.ruleName (a cluster whose CRD has no rule names cannot use it)"
    )]
    NoSuchRule {
        /// The route.
        route: String,
        /// The name.
        rule: String,
        /// The service.
        service: String,
    },
    /// The user's route names the canary Service before we do.
    #[error(
        "{route}: {path} already names Service {service}, which Sluice makes and deletes; send to \
         another Service there"
    )]
    CanaryNamed {
        /// The route.
        route: String,
        /// Where.
        path: String,
        /// The canary Service.
        service: String,
    },
    /// Not a percentage.
    #[error("{what} is {value} %; use 0 to 100")]
    NotAPercentage {
        /// Weight or mirror.
        what: &'static str,
        /// The number.
        value: u8,
    },
    /// Exact proportions do not fit into the API's largest weight.
    #[error(
        "{path}: weight {weight} needs {needed} to be split exactly, the Gateway API allows \
         1000000; use smaller weights of the same proportion"
    )]
    WeightTooLarge {
        /// Where.
        path: String,
        /// The user's weight.
        weight: u64,
        /// What would be written.
        needed: u64,
    },
    /// A limit of the Gateway API.
    #[error("{path}: {count} {what}, the Gateway API allows {limit}; use fewer of them")]
    TooMany {
        /// Where.
        path: String,
        /// Of what.
        what: &'static str,
        /// How many it would be.
        count: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// A match without any part matches everything.
    #[error("{path}: the match has no part; give it headers, cookies, queryParams, method or path")]
    EmptyMatch {
        /// Where.
        path: String,
    },
    /// Both sides match the same thing in ways that cannot be combined for certain.
    #[error(
        "{path}: {what} is matched by the route ({user}) and by the step ({wanted}), and whether \
         both can hold cannot be told; match it in one place only, or exactly in both"
    )]
    Uncombinable {
        /// Where.
        path: String,
        /// Header, query parameter or path, with its name.
        what: String,
        /// The route's value.
        user: String,
        /// The step's value.
        wanted: String,
    },
    /// A narrower path would be rewritten to something else.
    #[error(
        "{path}: the rule replaces its path prefix, so the step cannot match the path {wanted} in \
         it; match on a header, a cookie, a query parameter or the method"
    )]
    PrefixRewritten {
        /// Where.
        path: String,
        /// The step's path.
        wanted: String,
    },
    /// A longer path wins over a rule that takes some of its requests.
    #[error(
        "{path}: with the step's path {wanted} it would take requests from {other}, which matches \
         some of them; match on a header, a cookie, a query parameter or the method"
    )]
    Overtakes {
        /// Where.
        path: String,
        /// The step's path.
        wanted: String,
        /// The other rule.
        other: String,
    },
    /// No rule of the route can ever receive such a request.
    #[error(
        "{route}: none of the step's matches can hold in a rule that sends to Service {service}; \
         correct their path or method"
    )]
    NobodyMatches {
        /// The route.
        route: String,
        /// The service.
        service: String,
    },
    /// GRPCRoutes match headers only.
    #[error("{path}: a GRPCRoute cannot match on {what}; match on a header")]
    NotForGrpc {
        /// Where.
        path: String,
        /// What was asked for.
        what: &'static str,
    },
}

/// Why a Service cannot be used.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum ServiceError {
    /// Its pods cannot be told apart.
    #[error(
        "Service {service}: spec.selector is empty, so stable and canary pods cannot be told \
         apart; give it the selector of the workload's pods"
    )]
    NoSelector {
        /// The service.
        service: String,
    },
    /// It has no endpoints.
    #[error("Service {service}: spec.type is ExternalName; use a Service that selects pods")]
    ExternalName {
        /// The service.
        service: String,
    },
    /// The user pins it himself.
    #[error(
        "Service {service}: spec.selector has {label} already, which only Sluice may set; remove it"
    )]
    AlreadyPinned {
        /// The service.
        service: String,
        /// The label.
        label: String,
    },
    /// The canary name is taken.
    #[error(
        "Service {service} exists and is not owned by {owner}; delete or rename it, Sluice takes \
         over nothing that it did not make"
    )]
    NameTaken {
        /// The service.
        service: String,
        /// The Rollout.
        owner: String,
    },
}
