//! What can happen to a cluster, and what can be expected of it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::alerts::{self, Alert, Notice};
use crate::sim::apiserver::ResourceKey;
use crate::sim::hooks::Word;

/// Something that happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// `set image DEPLOYMENT IMAGE`.
    SetImage(String, String),
    /// `scale DEPLOYMENT N`, by its `/scale`, as an HPA does.
    Scale(String, i64),
    /// `undo DEPLOYMENT REVISION`: the template of a revision of the native history.
    Undo(String, i64),
    /// `approve ROLLOUT` and the other verbs that a person asks for by a status write.
    Request(String, &'static str),
    /// `jump ROLLOUT N`.
    Jump(String, i64),
    /// `pause ROLLOUT` and `resume ROLLOUT`.
    Pause(String, bool),
    /// `disable ROLLOUT` and `enable ROLLOUT`.
    Disable(String, bool),
    /// `delete KIND NAME`.
    Delete(String, String),
    /// `apply KIND NAME`: the manifest again, as a GitOps tool does, or for the first time.
    Apply(String, String),
    /// `patch KIND NAME JSON`.
    Patch(String, String, Value),
    /// `kill controller` and `start controller`.
    Controller(bool),
    /// `alert ROLLOUT NAME LABEL=VALUE ...`: an alert with these labels begins to fire.
    Alert(String, BTreeMap<String, String>),
    /// `hook NAME ok processing error hang`: how it answers from now on.
    Hook(String, Vec<Word>),
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

pub(super) fn resource(kind: &str) -> Result<ResourceKey, String> {
    Ok(match kind {
        "deployment" => ResourceKey::new("apps", "v1", "deployments"),
        "service" => ResourceKey::new("", "v1", "services"),
        "route" => ResourceKey::new("gateway.networking.k8s.io", "v1", "httproutes"),
        "rollout" => ResourceKey::new("sluice.dev", "v1beta1", "rollouts"),
        "gate" => ResourceKey::new("sluice.dev", "v1beta1", "gates"),
        "grpcroute" => ResourceKey::new("gateway.networking.k8s.io", "v1", "grpcroutes"),
        "template" => ResourceKey::new("sluice.dev", "v1beta1", "analysistemplates"),
        "provider" => ResourceKey::new("sluice.dev", "v1beta1", "metricproviders"),
        "replicaset" => ResourceKey::new("apps", "v1", "replicasets"),
        "pod" => ResourceKey::new("", "v1", "pods"),
        other => {
            return Err(format!(
                "{other:?} is no kind here: deployment, service, route, grpcroute, rollout, gate, \
                 template, provider, replicaset, pod"
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

/// How a hook answers: one word for each call, the last for all that follow.
pub(super) fn hook_words(how: &[&str]) -> Result<Vec<Word>, String> {
    let words: Option<Vec<Word>> = how.iter().map(|word| Word::parse(word)).collect();
    let words = words.filter(|words| !words.is_empty());
    words.ok_or_else(|| {
        "write hook NAME and ok, error, processing or hang, one for each call".into()
    })
}

impl Act {
    /// Reads what stands behind `at TIME`.
    pub(super) fn parse(words: &[&str], line: &str) -> Result<Self, String> {
        let own = |s: &str| s.to_owned();
        let number = |s: &str| s.parse::<i64>().map_err(|_| format!("{s:?} is no number"));
        Ok(match words {
            ["set", "image", deployment, image] => Self::SetImage(own(deployment), own(image)),
            ["scale", deployment, n] => Self::Scale(own(deployment), number(n)?),
            ["undo", deployment, n] => Self::Undo(own(deployment), number(n)?),
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
            ["alert", rollout, name, labels @ ..] => {
                let pair = |label: &&str| label.split_once('=').map(|(k, v)| (own(k), own(v)));
                let labels: Option<BTreeMap<_, _>> = labels.iter().map(pair).collect();
                let mut labels = labels.ok_or("write alert ROLLOUT NAME LABEL=VALUE ...")?;
                labels.insert("alertname".into(), own(name));
                Self::Alert(own(rollout), labels)
            }
            ["hook", name, how @ ..] => Self::Hook(own(name), hook_words(how)?),
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

    /// What is to be written, on objects as they are now.
    ///
    /// # Errors
    /// An object that it needs does not exist.
    pub fn decide(&self, objects: &Objects, manifests: &[Value]) -> Result<Deed, String> {
        let deployment = || resource("deployment");
        let patch = |key: ResourceKey, name: &str, sub: Option<&'static str>, body: Value| {
            Deed::Patch { key, name: name.to_owned(), subresource: sub, body }
        };
        Ok(match self {
            Self::Controller(on) => Deed::Controller(*on),
            Self::Hook(name, words) => Deed::Hook(name.clone(), words.clone()),
            Self::Expect(expect) => Deed::Expect(expect.clone()),
            Self::SetImage(name, image) => {
                let object = objects.get("deployment", name);
                let object = object.ok_or_else(|| format!("no Deployment {name}"))?;
                let mut containers = object["spec"]["template"]["spec"]["containers"].clone();
                containers[0]["image"] = json!(image);
                let body = json!({"spec": {"template": {"spec": {"containers": containers}}}});
                patch(deployment()?, name, None, body)
            }
            Self::Undo(name, revision) => {
                let object = objects.get("deployment", name);
                let object = object.ok_or_else(|| format!("no Deployment {name}"))?;
                let template = objects.of_revision(object, *revision)?;
                let body = json!({"template": instead(&object["spec"]["template"], template)});
                patch(deployment()?, name, None, json!({"spec": body}))
            }
            Self::Scale(name, n) => {
                patch(deployment()?, name, Some("scale"), json!({"spec": {"replicas": n}}))
            }
            Self::Request(name, verb) => {
                let body = json!({"status": {"request": {"verb": verb}}});
                patch(resource("rollout")?, name, Some("status"), body)
            }
            Self::Alert(name, labels) => {
                let object = objects.get("rollout", name).cloned();
                let object = object.ok_or_else(|| format!("no Rollout {name}"))?;
                let rollout = serde_json::from_value(object).map_err(|e| e.to_string())?;
                let asked = alerts::request(&rollout, &firing(labels));
                let asked = asked.ok_or_else(|| format!("it asks nothing of {name}"))?;
                Deed::Alert { rollout: name.clone(), body: json!({"status": {"request": asked}}) }
            }
            Self::Jump(name, n) => {
                let body = json!({"status": {"canaryStatus": {"nextStepIndex": n}}});
                patch(resource("rollout")?, name, Some("status"), body)
            }
            Self::Pause(name, paused) => {
                let body = json!({"spec": {"strategy": {"paused": paused}}});
                patch(resource("rollout")?, name, None, body)
            }
            Self::Disable(name, disabled) => {
                patch(resource("rollout")?, name, None, json!({"spec": {"disabled": disabled}}))
            }
            Self::Delete(kind, name) => {
                Deed::Delete { key: resource(kind)?, name: objects.named(kind, name)? }
            }
            Self::Patch(kind, name, body) => patch(resource(kind)?, name, None, body.clone()),
            Self::Apply(kind, name) => {
                let found = manifests.iter().find(|m| is(m, kind, name));
                let object = found.ok_or_else(|| format!("no manifest of {kind} {name}"))?;
                let mut body = object.clone();
                if objects.get(kind, name).is_none() {
                    return Ok(Deed::Create { key: resource(kind)?, body });
                }
                // The namespace is the story's own.
                if let Some(meta) = body.get_mut("metadata").and_then(Value::as_object_mut) {
                    meta.remove("namespace");
                }
                patch(resource(kind)?, name, None, body)
            }
        })
    }
}

/// A merge patch that makes `after` of `before`.
fn instead(before: &Value, after: Value) -> Value {
    let Value::Object(mut after) = after else { return after };
    for (key, old) in before.as_object().into_iter().flatten() {
        let new = after.remove(key).map_or(Value::Null, |new| instead(old, new));
        after.insert(key.clone(), new);
    }
    Value::Object(after)
}

/// Whether a manifest is of this kind and name.
pub(super) fn is(manifest: &Value, kind: &str, name: &str) -> bool {
    let served = manifest["kind"].as_str().unwrap_or_default().to_lowercase();
    resource(kind).is_ok_and(|key| key.plural == format!("{served}s"))
        && manifest["metadata"]["name"] == json!(name)
}

/// A decided deed.
#[derive(Debug, Clone, PartialEq)]
pub enum Deed {
    /// How a hook answers from now on.
    Hook(String, Vec<Word>),
    /// A merge patch.
    Patch {
        /// Of which resource.
        key: ResourceKey,
        /// Of which object.
        name: String,
        /// Of which part.
        subresource: Option<&'static str>,
        /// The patch.
        body: Value,
    },
    /// A create.
    Create {
        /// Of which resource.
        key: ResourceKey,
        /// The object.
        body: Value,
    },
    /// A delete.
    Delete {
        /// Of which resource.
        key: ResourceKey,
        /// Of which object.
        name: String,
    },
    /// The controller's own account patches a Rollout's status, as the receiver of alerts does.
    Alert {
        /// Of which Rollout.
        rollout: String,
        /// The patch.
        body: Value,
    },
    /// The controller is started or killed.
    Controller(bool),
    /// Nothing is done, something is looked at.
    Expect(Expect),
}

/// What Alertmanager says of one alert.
fn firing(labels: &BTreeMap<String, String>) -> Notice {
    let alert = Alert {
        status: "firing".to_owned(),
        labels: labels.clone(),
        annotations: BTreeMap::new(),
        starts_at: String::new(),
        fingerprint: None,
    };
    Notice { version: "4".to_owned(), alerts: vec![alert] }
}

/// The objects of one namespace that stories speak of.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    objects: BTreeMap<(String, String), Value>,
    /// Requests that failed without an answer of any version; none are counted where nobody asks.
    pub failed_elsewhere: u64,
}

impl Objects {
    /// The kinds to read, and where they are.
    ///
    /// # Errors
    /// Never: every kind of the list is known.
    pub fn kinds() -> Result<Vec<(&'static str, ResourceKey)>, String> {
        let kinds = [
            "deployment",
            "service",
            "route",
            "grpcroute",
            "rollout",
            "gate",
            "template",
            "provider",
            "replicaset",
            "pod",
        ];
        kinds.into_iter().map(|kind| Ok((kind, resource(kind)?))).collect()
    }

    /// Adds an object of a kind.
    pub fn add(&mut self, kind: &str, object: Value) {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        self.objects.insert((kind.to_owned(), name), object);
    }

    /// One object.
    #[must_use]
    pub fn get(&self, kind: &str, name: &str) -> Option<&Value> {
        self.objects.get(&(kind.to_owned(), name.to_owned()))
    }

    /// The pod template of a revision of a Deployment.
    fn of_revision(&self, deployment: &Value, revision: i64) -> Result<Value, String> {
        let number = "/metadata/annotations/deployment.kubernetes.io~1revision";
        let revision = json!(revision.to_string());
        let mut sets = self.all("replicaset").filter(|set| {
            set.pointer("/metadata/ownerReferences/0/uid") == deployment.pointer("/metadata/uid")
        });
        let found = sets.find(|set| set.pointer(number) == Some(&revision));
        let template = found.and_then(|set| set.pointer("/spec/template"));
        let template = template.ok_or_else(|| format!("no revision {revision}"))?;
        Ok(crate::workload::view::normal_template(template))
    }

    /// A ReplicaSet can be called by its image; everything else has the name it is called by.
    fn named(&self, kind: &str, name: &str) -> Result<String, String> {
        if kind != "replicaset" || !name.contains(':') {
            return Ok(name.to_owned());
        }
        let image = "/spec/template/spec/containers/0/image";
        let found = self.all(kind).find(|set| set.pointer(image) == Some(&json!(name)));
        let found = found.and_then(|set| set["metadata"]["name"].as_str());
        found.map(str::to_owned).ok_or_else(|| format!("no ReplicaSet of {name}"))
    }

    /// Every object of a kind.
    pub fn all(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |((k, _), _)| k == kind).map(|(_, v)| v)
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
                return Err(
                    "expect phase | decision | waiting | pods | weight | field | no failures \
                            elsewhere"
                        .into(),
                );
            }
        })
    }

    /// Whether it is so.
    ///
    /// # Errors
    /// The found value, when it is another one.
    pub fn check(&self, objects: &Objects) -> Result<(), String> {
        let field = |kind: &str, name: &str, pointer: &str| {
            objects.get(kind, name).and_then(|object| object.pointer(pointer)).cloned()
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
                let live = objects.all("pod").filter(|p| {
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
                let ours = |r: &&Value| r["name"].as_str().is_some_and(|n| n.ends_with("-canary"));
                let canary: i64 = all.iter().filter(ours).map(weight).sum();
                let found = if total == 0 { 0 } else { canary * 100 / total };
                if found == *percent { Ok(()) } else { Err(format!("found {found}%")) }
            }
            Self::NoFailuresElsewhere => match objects.failed_elsewhere {
                0 => Ok(()),
                found => Err(format!("found {found}")),
            },
            Self::Field(kind, name, pointer, value) => same(field(kind, name, pointer), value),
        }
    }
}
