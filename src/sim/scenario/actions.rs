//! What can happen to a cluster, and what can be expected of it.

use serde_json::{Value, json};

use crate::sim::apiserver::{PatchType, ResourceKey, Verb};
use crate::sim::cluster::{Cluster, USER};

/// Something that happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// `set image DEPLOYMENT IMAGE`.
    SetImage(String, String),
    /// `scale DEPLOYMENT N`, by its `/scale`, as an HPA does.
    Scale(String, i64),
    /// `undo DEPLOYMENT IMAGE`: back to an older image, as a template write.
    Request(String, &'static str),
    /// `jump ROLLOUT N`.
    Jump(String, i64),
    /// `pause ROLLOUT` and `resume ROLLOUT`.
    Pause(String, bool),
    /// `disable ROLLOUT` and `enable ROLLOUT`.
    Disable(String, bool),
    /// `delete KIND NAME`.
    Delete(String, String),
    /// `apply KIND NAME`: the manifest again, as a GitOps tool does.
    Apply(String, String),
    /// `patch KIND NAME JSON`.
    Patch(String, String, Value),
    /// `kill controller` and `start controller`.
    Controller(bool),
    /// `expect ...` at a time.
    Expect(Expect),
}

/// Something that must be true.
#[derive(Debug, Clone, PartialEq)]
pub enum Expect {
    /// `phase ROLLOUT PHASE`.
    Phase(String, String),
    /// `decision ROLLOUT DECISION`.
    Decision(String, String),
    /// `waiting ROLLOUT WORDS...`: the reason for waiting has these words.
    Waiting(String, String),
    /// `pods DEPLOYMENT IMAGE N`: so many pods run this image.
    Pods(String, i64),
    /// `weight ROUTE PERCENT`: the canary's share.
    Weight(String, i64),
    /// `no failures elsewhere`.
    NoFailuresElsewhere,
    /// `field KIND NAME POINTER VALUE`.
    Field(String, String, String, Value),
}

fn resource(kind: &str) -> Result<ResourceKey, String> {
    Ok(match kind {
        "deployment" => ResourceKey::new("apps", "v1", "deployments"),
        "service" => ResourceKey::new("", "v1", "services"),
        "route" => ResourceKey::new("gateway.networking.k8s.io", "v1", "httproutes"),
        "rollout" => ResourceKey::new("sluice.dev", "v1beta1", "rollouts"),
        "gate" => ResourceKey::new("sluice.dev", "v1beta1", "gates"),
        "template" => ResourceKey::new("sluice.dev", "v1beta1", "analysistemplates"),
        "pod" => ResourceKey::new("", "v1", "pods"),
        other => {
            return Err(format!(
                "{other:?} is no kind here: deployment, service, route, rollout, gate, template"
            ));
        }
    })
}

const VERBS: [(&str, &str); 7] = [
    ("approve", "Approve"),
    ("abort", "Abort"),
    ("retry", "Retry"),
    ("skip", "Skip"),
    ("restart", "Restart"),
    ("promote", "Approve"),
    ("promote-full", "PromoteFull"),
];

impl Act {
    /// Reads what stands behind `at TIME`.
    pub(super) fn parse(words: &[&str], line: &str) -> Result<Self, String> {
        let own = |s: &str| s.to_owned();
        let number = |s: &str| s.parse::<i64>().map_err(|_| format!("{s:?} is no number"));
        Ok(match words {
            ["set", "image", deployment, image] => Self::SetImage(own(deployment), own(image)),
            ["scale", deployment, n] => Self::Scale(own(deployment), number(n)?),
            ["jump", rollout, n] => Self::Jump(own(rollout), number(n)?),
            ["pause", rollout] => Self::Pause(own(rollout), true),
            ["resume", rollout] => Self::Pause(own(rollout), false),
            ["disable", rollout] => Self::Disable(own(rollout), true),
            ["enable", rollout] => Self::Disable(own(rollout), false),
            ["kill", "controller"] => Self::Controller(false),
            ["start", "controller"] => Self::Controller(true),
            ["delete", kind, name] => {
                resource(kind)?;
                Self::Delete(own(kind), own(name))
            }
            ["apply", kind, name] => {
                resource(kind)?;
                Self::Apply(own(kind), own(name))
            }
            ["patch", kind, name, ..] => {
                resource(kind)?;
                let body = line.find('{').and_then(|at| line.get(at..)).unwrap_or_default();
                let body = serde_json::from_str(body).map_err(|e| format!("no JSON: {e}"))?;
                Self::Patch(own(kind), own(name), body)
            }
            ["expect", rest @ ..] => Self::Expect(Expect::parse(rest)?),
            [verb, rollout] => {
                let known = VERBS.iter().find(|(word, _)| word == verb);
                let Some((_, request)) = known else {
                    return Err(format!("{verb:?} is no verb here"));
                };
                Self::Request(own(rollout), request)
            }
            _ => return Err("this is nothing that can happen".into()),
        })
    }

    pub(super) fn perform(&self, c: &mut Cluster, manifests: &[Value]) -> Result<(), String> {
        match self {
            Self::Controller(true) => {
                c.start_controller();
                return Ok(());
            }
            Self::Controller(false) => {
                c.kill_controller();
                return Ok(());
            }
            Self::Expect(expect) => return expect.check(c),
            _ => {}
        }
        let deployments = resource("deployment")?;
        let rollouts = resource("rollout")?;
        let server = &c.server;
        let done = match self {
            Self::SetImage(name, image) => {
                let found = server.get(&deployments, "default", name);
                let object = found.ok_or_else(|| format!("no Deployment {name}"))?;
                let mut containers = object["spec"]["template"]["spec"]["containers"].clone();
                containers[0]["image"] = json!(image);
                let body = json!({"spec": {"template": {"spec": {"containers": containers}}}});
                server.patch_merge(USER, &deployments, "default", name, body)
            }
            Self::Scale(name, n) => {
                let mut call = crate::sim::apiserver::Call::new(
                    USER,
                    Verb::Patch(PatchType::Merge),
                    deployments,
                );
                call.namespace = Some("default".into());
                call.name = Some(name.clone());
                call.subresource = Some("scale".into());
                call.body = json!({"spec": {"replicas": n}});
                server.call(call)
            }
            Self::Request(name, verb) => {
                let body = json!({"status": {"request": {"verb": verb}}});
                server.patch_status(USER, &rollouts, "default", name, body)
            }
            Self::Jump(name, n) => {
                let body = json!({"status": {"canaryStatus": {"nextStepIndex": n}}});
                server.patch_status(USER, &rollouts, "default", name, body)
            }
            Self::Pause(name, paused) => {
                let body = json!({"spec": {"strategy": {"paused": paused}}});
                server.patch_merge(USER, &rollouts, "default", name, body)
            }
            Self::Disable(name, disabled) => {
                let body = json!({"spec": {"disabled": disabled}});
                server.patch_merge(USER, &rollouts, "default", name, body)
            }
            Self::Delete(kind, name) => server.delete(USER, &resource(kind)?, "default", name),
            Self::Patch(kind, name, body) => {
                server.patch_merge(USER, &resource(kind)?, "default", name, body.clone())
            }
            Self::Apply(kind, name) => {
                let key = resource(kind)?;
                let found = manifests.iter().find(|m| {
                    let served = m["kind"].as_str().unwrap_or_default().to_lowercase();
                    let named = if served == "httproute" { "route" } else { served.as_str() };
                    named == kind && m["metadata"]["name"] == json!(name)
                });
                let object = found.ok_or_else(|| format!("no manifest of {kind} {name}"))?;
                server.patch_merge(USER, &key, "default", name, object.clone())
            }
            Self::Controller(_) | Self::Expect(_) => return Ok(()),
        };
        done.map(|_| ()).map_err(|status| format!("{status:?}"))
    }
}

impl Expect {
    pub(super) fn parse(words: &[&str]) -> Result<Self, String> {
        let own = |s: &str| s.to_owned();
        Ok(match words {
            ["phase", rollout, phase] => Self::Phase(own(rollout), own(phase)),
            ["decision", rollout, decision] => Self::Decision(own(rollout), own(decision)),
            ["waiting", rollout, rest @ ..] => Self::Waiting(own(rollout), rest.join(" ")),
            ["pods", image, n] => {
                Self::Pods(own(image), n.parse().map_err(|_| format!("{n:?} is no number"))?)
            }
            ["weight", route, percent] => {
                let n = percent.trim_end_matches('%').parse();
                Self::Weight(own(route), n.map_err(|_| format!("{percent:?} is no percentage"))?)
            }
            ["no", "failures", "elsewhere"] => Self::NoFailuresElsewhere,
            ["field", kind, name, pointer, value] => {
                resource(kind)?;
                let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
                Self::Field(own(kind), own(name), own(pointer), value)
            }
            _ => {
                return Err("expect phase | decision | waiting | pods | weight | field | no failures \
                            elsewhere"
                    .into());
            }
        })
    }

    /// The found value, when it is another one.
    pub(super) fn check(&self, c: &Cluster) -> Result<(), String> {
        let field = |kind: &str, name: &str, pointer: &str| {
            let key = resource(kind).ok()?;
            let object = c.server.get(&key, "default", name)?;
            object.pointer(pointer).cloned()
        };
        let same = |found: Option<Value>, wanted: &Value| {
            let found = found.unwrap_or_default();
            if found == *wanted { Ok(()) } else { Err(format!("found {found}")) }
        };
        match self {
            Self::Phase(name, phase) => {
                same(field("rollout", name, "/status/phase"), &json!(phase))
            }
            Self::Decision(name, decision) => {
                same(field("rollout", name, "/status/lastRelease/decision"), &json!(decision))
            }
            Self::Waiting(name, words) => {
                let found = field("rollout", name, "/status/waitingFor").unwrap_or_default();
                let has = found.as_str().is_some_and(|f| f.contains(words));
                if has { Ok(()) } else { Err(format!("found {found}")) }
            }
            Self::Pods(image, n) => {
                let pods = c.server.list(&ResourceKey::new("", "v1", "pods"), Some("default"));
                let live = pods.iter().filter(|p| {
                    p.pointer("/metadata/deletionTimestamp").is_none()
                        && p.pointer("/spec/containers/0/image") == Some(&json!(image))
                });
                let found = i64::try_from(live.count()).unwrap_or(i64::MAX);
                if found == *n { Ok(()) } else { Err(format!("found {found}")) }
            }
            Self::Weight(name, percent) => {
                let refs = field("route", name, "/spec/rules/0/backendRefs").unwrap_or_default();
                let weight = |r: &Value| r.get("weight").and_then(Value::as_i64).unwrap_or(1);
                let all = refs.as_array().cloned().unwrap_or_default();
                let total: i64 = all.iter().map(weight).sum();
                let canary: i64 = all
                    .iter()
                    .filter(|r| r["name"].as_str().is_some_and(|n| n.ends_with("-canary")))
                    .map(weight)
                    .sum();
                let found = if total == 0 { 0 } else { canary * 100 / total };
                if found == *percent { Ok(()) } else { Err(format!("found {found}%")) }
            }
            Self::NoFailuresElsewhere => {
                let found = c.outcomes().failed_elsewhere;
                if found == 0 { Ok(()) } else { Err(format!("found {found}")) }
            }
            Self::Field(kind, name, pointer, value) => same(field(kind, name, pointer), value),
        }
    }
}
