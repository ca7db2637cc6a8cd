//! Properties of random routes under random splits, crashes and edits by others.
//!
//! The oracle is the user's manifest: it goes through the same edits as the route in the cluster,
//! but never through ours. Whatever happens, restoring the route must give that manifest, whole.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::{Value, json};

use super::*;
use crate::api::rollout::HttpMatch;

const NAMES: [&str; 3] = ["legacy", "dark", "batch"];

/// What somebody does next.
#[derive(Clone, Debug)]
enum Event {
    /// We write this split.
    Apply(Split),
    /// We store the notes for this split and die before the route is written.
    Crash(Split),
    /// A person turns the order of the rules round, in the cluster.
    Reverse,
    /// A person puts a rule of his own in front.
    AddRule(Value),
    RemoveRule(usize),
    AddFilter(usize),
    EditMatches(usize),
    /// A person sets the weight of another backend against the numbers that he sees.
    SetWeight(usize, u64),
    /// A GitOps tool applies the manifest again: all that we wrote is gone.
    ApplyManifest,
    /// The same with the service's weights changed.
    ApplyChangedManifest(Option<u64>),
}

fn weight() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![Just(None), Just(Some(1)), (0_u64..12).prop_map(Some), (0_u64..9000).prop_map(Some)]
}

fn backend(name: &'static str, port: u16) -> impl Strategy<Value = Value> {
    (weight(), any::<bool>()).prop_map(move |(weight, filtered)| {
        let mut out = json!({"name": name, "port": port});
        if let Some(weight) = weight {
            out["weight"] = json!(weight);
        }
        if filtered {
            out["filters"] = json!([{"type": "ExtensionRef", "extensionRef": {"name": "x"}}]);
        }
        out
    })
}

fn backends(with_service: bool) -> impl Strategy<Value = Vec<Value>> {
    let others = NAMES.map(|name| prop::option::of(backend(name, 80)));
    let service = (backend("web", 80), prop::option::weighted(0.2, backend("web", 81)));
    (others, service, any::<bool>()).prop_map(move |(others, (web, admin), first)| {
        let mut out: Vec<Value> = others.into_iter().flatten().collect();
        if with_service {
            out.insert(if first { 0 } else { out.len() }, web);
            out.extend(admin);
        }
        out
    })
}

fn rule(with_service: bool) -> impl Strategy<Value = Value> {
    let filters = prop_oneof![
        Just(None),
        Just(Some(json!([]))),
        Just(Some(json!([{"type": "RequestHeaderModifier",
            "requestHeaderModifier": {"set": [{"name": "x-a", "value": "1"}]}}]))),
        Just(Some(json!([{"type": "RequestMirror",
            "requestMirror": {"backendRef": {"name": "shadow", "port": 80}}}]))),
    ];
    (backends(with_service), filters, any::<bool>(), any::<bool>()).prop_map(
        |(backends, filters, timeouts, header)| {
            let mut out = json!({"backendRefs": backends, "matches": [{}]});
            if let Some(filters) = filters {
                out["filters"] = filters;
            }
            if timeouts {
                out["timeouts"] = json!({"request": "3s"});
            }
            if header {
                out["matches"] = json!([{}, {"headers": [{"name": "x-own", "value": "1"}]}]);
            }
            out
        },
    )
}

/// Rules with a path of their own each, so that an edit can be told from another rule.
fn place(mut rule: Value, path: &str) -> Value {
    for one in rule["matches"].as_array_mut().unwrap() {
        one["path"] = json!({"type": "PathPrefix", "value": path});
    }
    rule
}

fn manifest() -> impl Strategy<Value = Value> {
    let rest = prop::collection::vec(any::<bool>().prop_flat_map(rule), 0..4);
    (rule(true), rest).prop_map(|(first, rest)| {
        let all = std::iter::once(first).chain(rest).enumerate();
        let rules: Vec<Value> = all.map(|(i, rule)| place(rule, &format!("/r{i}"))).collect();
        json!({
            "kind": "HTTPRoute",
            "metadata": {"name": "web", "namespace": "shop", "labels": {"a": "b"}},
            "spec": {"hostnames": ["shop.example"], "rules": rules},
        })
    })
}

fn split() -> impl Strategy<Value = Split> {
    let one: Vec<HttpMatch> = serde_json::from_value(json!([
        {"headers": [{"name": "x-employee", "value": "yes"}]},
        {"cookies": [{"name": "beta", "value": "1"}], "method": "GET"},
        {"path": {"value": "/r0/new"}},
        {"queryParams": [{"name": "v", "value": "2"}]},
    ]))
    .unwrap();
    let matches = prop_oneof![Just(Vec::new()), prop::sample::subsequence(one, 0..4)];
    let headers =
        serde_json::from_value(json!({"set": [{"name": "x-arm", "value": "c"}]})).unwrap();
    let weight =
        prop_oneof![Just(None), Just(Some(0)), Just(Some(100)), (0_u8..=100).prop_map(Some)];
    let mirror = prop_oneof![Just(None), (1_u8..=100).prop_map(Some)];
    (weight, matches, prop::option::of(Just(headers)), mirror)
        .prop_map(|(weight, matches, headers, mirror)| Split { weight, matches, headers, mirror })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => split().prop_map(Event::Apply),
        1 => split().prop_map(Event::Crash),
        1 => Just(Event::Reverse),
        1 => any::<bool>().prop_flat_map(rule).prop_map(Event::AddRule),
        1 => any::<usize>().prop_map(Event::RemoveRule),
        1 => any::<usize>().prop_map(Event::AddFilter),
        1 => any::<usize>().prop_map(Event::EditMatches),
        2 => (any::<usize>(), 0_u64..500).prop_map(|(i, w)| Event::SetWeight(i, w)),
        1 => Just(Event::ApplyManifest),
        1 => weight().prop_map(Event::ApplyChangedManifest),
    ]
}

fn named(backend: &Value, name: &str) -> bool {
    backend["name"] == name
}

fn is_ours(rule: &Value) -> bool {
    let backends = rule["backendRefs"].as_array().unwrap();
    !backends.is_empty() && backends.iter().all(|b| named(b, "web-canary"))
}

fn has_service(rule: &Value) -> bool {
    rule["backendRefs"].as_array().unwrap().iter().any(|b| named(b, "web"))
}

fn rules_of(route: &mut Value) -> &mut Vec<Value> {
    route["spec"]["rules"].as_array_mut().unwrap()
}

/// Where the user's rules stand.
fn places(route: &Value) -> Vec<usize> {
    let rules = route["spec"]["rules"].as_array().unwrap();
    rules.iter().enumerate().filter(|(_, r)| !is_ours(r)).map(|(i, _)| i).collect()
}

fn written(backend: &Value) -> u64 {
    backend["weight"].as_u64().unwrap_or(1)
}

fn sum_of(backends: &[Value]) -> u64 {
    backends.iter().map(written).sum()
}

/// The cluster's route, the user's manifest, and what we know.
struct World {
    pair: ServicePair,
    live: Value,
    manifest: Value,
    notes: Option<RouteNotes>,
    split: Split,
    paths: usize,
}

impl World {
    fn new(manifest: Value) -> Self {
        let pair = ServicePair::of("web");
        let live = manifest.clone();
        Self { pair, live, manifest, notes: None, split: Split::stable(), paths: 0 }
    }

    fn desired(&self, split: &Split) -> Result<(Value, RouteNotes), RouteError> {
        apply_route(&self.live, &self.pair, None, split, self.notes.as_ref())
    }

    fn apply(&mut self, split: &Split) {
        let Ok((live, notes)) = self.desired(split) else {
            return;
        };
        (self.live, self.notes, self.split) = (live, Some(notes), split.clone());
        self.check_written();
    }

    /// The controller answers an edit: the same split again, or none when it no longer fits.
    fn settle(&mut self) {
        let split = self.split.clone();
        let split = if self.desired(&split).is_ok() { split } else { Split::stable() };
        self.apply(&split);
    }

    fn check_written(&self) {
        let again = self.desired(&self.split).unwrap();
        assert_eq!(again, (self.live.clone(), self.notes.clone().unwrap()), "idempotent");
        let seen = observed_split(&self.live, &self.pair, None, &self.split, self.notes.as_ref());
        assert_eq!(seen, Ok(Observed::Exact));
        let users: Vec<usize> = places(&self.live);
        let original = self.manifest["spec"]["rules"].as_array().unwrap();
        assert_eq!(users.len(), original.len());
        let none = Split { weight: self.split.weight.map(|_| 0), ..Split::stable() };
        let zero = apply_route(&self.manifest, &self.pair, None, &none, None).unwrap().0;
        for (i, place) in users.into_iter().enumerate() {
            let rule = &self.live["spec"]["rules"][place];
            self.check_rule(rule, &original[i], &zero["spec"]["rules"][i]);
        }
    }

    /// Shares are what was asked for, every proportion is what it was, and the sum is that of 0 %.
    fn check_rule(&self, rule: &Value, before: &Value, zero: &Value) {
        let all = rule["backendRefs"].as_array().unwrap();
        let was = before["backendRefs"].as_array().unwrap();
        let sum = |backends: &[Value], name: &str| -> u64 {
            backends.iter().filter(|b| named(b, name)).map(written).sum()
        };
        let (stable, canary) = (sum(all, "web"), sum(all, "web-canary"));
        let Some(percent) = self.split.weight.filter(|_| has_service(before)) else {
            assert_eq!(all, was);
            return;
        };
        assert_eq!(canary * 100, u64::from(percent) * (stable + canary));
        for other in NAMES {
            let (now, then) = (sum(all, other), sum(was, other));
            assert_eq!(now * sum(was, "web"), then * (stable + canary), "{other}");
        }
        assert_eq!(sum_of(all), sum_of(zero["backendRefs"].as_array().unwrap()), "at every step");
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Apply(split) => self.apply(&split),
            Event::Crash(split) => {
                if let Ok((_, notes)) = self.desired(&split) {
                    self.notes = Some(notes);
                }
            }
            Event::Reverse => {
                rules_of(&mut self.manifest).reverse();
                rules_of(&mut self.live).reverse();
            }
            Event::AddRule(rule) => {
                let rule = place(rule, &self.fresh_path());
                rules_of(&mut self.manifest).insert(0, rule.clone());
                rules_of(&mut self.live).insert(0, rule);
            }
            Event::RemoveRule(i) => self.remove_rule(i),
            Event::AddFilter(i) => {
                let filter = json!({"type": "URLRewrite", "urlRewrite": {"hostname": "h"}});
                self.edit(i, |rule| match rule["filters"].as_array_mut() {
                    Some(filters) => filters.push(filter.clone()),
                    None => rule["filters"] = json!([filter]),
                });
            }
            // A rule is known by its matches: they change between two looks of ours, not together
            // with something else of the rule's.
            Event::EditMatches(i) => {
                self.settle();
                let path = self.fresh_path();
                self.edit(i, |rule| *rule = place(rule.clone(), &path));
                self.settle();
            }
            Event::SetWeight(i, weight) => self.set_weight(i, weight),
            Event::ApplyManifest => {
                self.live = self.manifest.clone();
                self.see_reset();
            }
            Event::ApplyChangedManifest(weight) => {
                for rule in rules_of(&mut self.manifest).iter_mut().filter(|r| has_service(r)) {
                    let backends = rule["backendRefs"].as_array_mut().unwrap();
                    let web = backends.iter_mut().find(|b| named(b, "web")).unwrap();
                    web["weight"] = json!(weight.unwrap_or(7));
                }
                self.live = self.manifest.clone();
                self.see_reset();
            }
        }
    }

    fn fresh_path(&mut self) -> String {
        self.paths += 1;
        format!("/fresh{}", self.paths)
    }

    fn edit(&mut self, i: usize, change: impl Fn(&mut Value)) {
        let places = places(&self.live);
        let i = i % places.len();
        change(&mut rules_of(&mut self.live)[places[i]]);
        change(&mut rules_of(&mut self.manifest)[i]);
    }

    fn remove_rule(&mut self, i: usize) {
        let rules = self.manifest["spec"]["rules"].as_array().unwrap();
        let i = i % rules.len();
        if !rules.iter().enumerate().any(|(j, rule)| j != i && has_service(rule)) {
            return;
        }
        let place = places(&self.live)[i];
        rules_of(&mut self.live).remove(place);
        rules_of(&mut self.manifest).remove(i);
        self.settle();
    }

    /// In a split rule the person means what he sees: so his manifest now has the numbers shown,
    /// with the canary's part counted to the service.
    fn set_weight(&mut self, i: usize, weight: u64) {
        let places = places(&self.live);
        let i = i % places.len();
        let rule = &mut rules_of(&mut self.live)[places[i]];
        let shown = rule["backendRefs"].as_array_mut().unwrap();
        let is_split = shown.iter().any(|b| named(b, "web-canary"));
        let Some(other) = shown.iter_mut().find(|b| NAMES.iter().any(|n| named(b, n))) else {
            return;
        };
        if other["weight"] == json!(weight) {
            return;
        }
        other["weight"] = json!(weight);
        let edited = other["name"].clone();
        let shown = shown.clone();
        let own = rules_of(&mut self.manifest)[i]["backendRefs"].as_array_mut().unwrap();
        for backend in own {
            if backend["name"] == edited {
                backend["weight"] = json!(weight);
            } else if is_split {
                let arm = |b: &&Value| {
                    b["port"] == backend["port"]
                        && (b["name"] == backend["name"]
                            || (named(backend, "web") && named(b, "web-canary")))
                };
                backend["weight"] = json!(shown.iter().filter(arm).map(written).sum::<u64>());
            }
        }
    }

    fn see_reset(&self) {
        let seen = observed_split(&self.live, &self.pair, None, &self.split, self.notes.as_ref());
        match seen {
            Ok(Observed::Exact) => assert!(self.split.is_stable()),
            Ok(seen) => assert_eq!(seen, Observed::Untouched),
            Err(_) => {}
        }
    }

    fn check_restorable(&self) {
        let restored = restore_route(&self.live, &self.pair, self.notes.as_ref());
        assert_eq!(restored, self.manifest);
        assert_eq!(restore_route(&restored, &self.pair, None), restored, "nothing of ours is left");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 120,
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_history_can_be_restored_to_the_users_latest_manifest(
        manifest in manifest(),
        events in prop::collection::vec(event(), 1..12),
    ) {
        let mut world = World::new(manifest);
        for event in events {
            world.happen(event);
            world.check_restorable();
        }
    }
}
