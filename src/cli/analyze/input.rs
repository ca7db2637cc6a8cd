//! From files and words to one AnalysisRun that measures everything once.

use std::collections::BTreeMap;

use anyhow::{Context, anyhow, bail};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::super::args::Analyze;
use super::super::files;
use super::super::lint::{Finding, Linter, Severity};
use crate::analysis::args::secret_of;
use crate::analysis::{NamedTemplate, ReleaseContext, Secrets, build_run, flatten, secrets_needed};
use crate::api::common::SecretKeyRef;
use crate::api::metric_provider::MetricProviderSpec;
use crate::api::{AnalysisRun, AnalysisTemplateSpec, GROUP, Metric, VERSION};
use crate::providers::{Catalog, ProviderError, Server};
use crate::spec::{AnalysisStanza, Arg, ArgValue, TemplateRef};

/// What is asked, of whom, as of when.
pub(super) struct Input {
    /// The template.
    pub(super) template: String,
    /// The instant that is asked for.
    pub(super) at: Timestamp,
    /// One run of the template and those that it names.
    pub(super) run: AnalysisRun,
    /// The MetricProviders of the files.
    pub(super) catalog: Catalog,
    /// The Secrets of the files that arguments name.
    pub(super) secrets: Secrets,
}

/// A template of the files.
pub(in crate::cli) struct Template {
    pub(in crate::cli) reference: TemplateRef,
    pub(in crate::cli) namespace: Option<String>,
    pub(in crate::cli) spec: AnalysisTemplateSpec,
    object: Value,
}

impl Input {
    /// Reads files and words.
    ///
    /// # Errors
    /// Anything that keeps a query from being asked, with what to write.
    pub(super) fn read(args: &Analyze, now: Timestamp) -> anyhow::Result<Self> {
        let objects = objects(&files::read(&args.filename)?)?;
        let templates = templates(&objects)?;
        let root = root(&templates, args.template.as_deref())?;
        let at = args.at.as_deref().map(|text| instant(text, now, "--at")).transpose()?;
        let find = |wanted: &TemplateRef| templates.iter().find(|t| t.reference == *wanted);
        let flat = flatten(std::slice::from_ref(&root.reference), |r| Some(&find(r)?.spec))
            .map_err(|error| anyhow!("{error}: give its file with -f too"))?;
        check(
            templates
                .iter()
                .filter(|t| flat.iter().any(|f| std::ptr::eq(f.spec, &raw const t.spec))),
        )?;
        let mut specs: Vec<_> = flat.iter().map(|f| (f.name.clone(), f.spec.clone())).collect();
        let metrics = specs.iter_mut().flat_map(|(_, spec)| &mut spec.metrics);
        for metric in metrics {
            once(metric);
            direct(metric, args.provider_address.as_deref(), at)?;
        }
        let values = values(&args.args, &specs)?;
        let namespace = root.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let named: Vec<_> =
            specs.iter().map(|(name, spec)| NamedTemplate { name: name.clone(), spec }).collect();
        let stanza = AnalysisStanza { args: values, ..AnalysisStanza::default() };
        let rollout = Value::Null;
        let context = ReleaseContext { stable: "", canary: "", rollout: &rollout, release: None };
        let name = root.reference.name.clone();
        let run = build_run(&name, &namespace, None, &named, &stanza, &context)?;
        let catalog = catalog(&objects, &namespace, at);
        let secrets = secrets(&run, &objects)?;
        Ok(Self { template: name, at: at.unwrap_or(now), run, catalog, secrets })
    }
}

/// Every object of the files, those of lists one by one.
pub(in crate::cli) fn objects(texts: &[files::Text]) -> anyhow::Result<Vec<Value>> {
    let mut all = Vec::new();
    for (source, text) in texts {
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(text).with_context(|| format!("{source} is no YAML"))?;
        for mut document in documents {
            match document.get_mut("items").and_then(Value::as_array_mut) {
                Some(items) => all.append(items),
                None => all.push(document),
            }
        }
    }
    Ok(all)
}

pub(in crate::cli) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The templates among `objects`. One that is written for Argo Rollouts is read as ours.
pub(in crate::cli) fn templates(objects: &[Value]) -> anyhow::Result<Vec<Template>> {
    let mut found = Vec::new();
    for object in objects {
        let cluster = match text(object, "/kind") {
            "AnalysisTemplate" => false,
            "ClusterAnalysisTemplate" => true,
            _ => continue,
        };
        let mut object = object.clone();
        let ours = format!("{GROUP}/{VERSION}");
        if let Some(version) = object.get_mut("apiVersion")
            && version == "argoproj.io/v1alpha1"
        {
            *version = Value::from(ours);
        }
        let name = text(&object, "/metadata/name").to_owned();
        let spec = object.get("spec").cloned().unwrap_or_default();
        let spec = match serde_json::from_value(spec) {
            Ok(spec) => spec,
            Err(error) => {
                let findings = Linter::default().lint(&object).unwrap_or_default();
                let said = lines(&findings, Severity::Error);
                bail!("template {name}: {}", said.unwrap_or_else(|| error.to_string()));
            }
        };
        let namespace = text(&object, "/metadata/namespace").to_owned();
        found.push(Template {
            reference: TemplateRef { name, cluster },
            namespace: Some(namespace).filter(|namespace| !namespace.is_empty()),
            spec,
            object,
        });
    }
    Ok(found)
}

/// The template that is meant: by name, else the only one that no other one names.
pub(in crate::cli) fn root<'a>(
    templates: &'a [Template],
    name: Option<&str>,
) -> anyhow::Result<&'a Template> {
    let nested = |template: &Template| {
        let mut names = templates.iter().flat_map(|t| &t.spec.templates);
        names.any(|n| {
            (&n.template_name, n.cluster_scope)
                == (&template.reference.name, template.reference.cluster)
        })
    };
    let known = || {
        let names: Vec<_> = templates.iter().map(|t| t.reference.name.as_str()).collect();
        names.join(", ")
    };
    if templates.is_empty() {
        bail!("no AnalysisTemplate in the files: give one with -f");
    }
    if let Some(name) = name {
        let found = templates.iter().find(|template| template.reference.name == name);
        return found
            .ok_or_else(|| anyhow!("no template {name:?} in the files: there are {}", known()));
    }
    let mut roots = templates.iter().filter(|template| !nested(template));
    match (roots.next(), roots.next()) {
        (Some(root), None) => Ok(root),
        _ => bail!("the files have several templates: name one with --template: {}", known()),
    }
}

/// Refuses what `sluice lint` calls an error.
pub(in crate::cli) fn check<'a>(
    templates: impl Iterator<Item = &'a Template>,
) -> anyhow::Result<()> {
    let linter = Linter::default();
    for template in templates {
        let findings = linter.lint(&template.object).unwrap_or_default();
        if let Some(said) = lines(&findings, Severity::Error) {
            bail!("template {}: {said}", template.reference.name);
        }
    }
    Ok(())
}

/// The findings of one severity, a line each.
fn lines(findings: &[Finding], severity: Severity) -> Option<String> {
    let lines: Vec<_> = findings
        .iter()
        .filter(|finding| finding.severity == severity)
        .map(|finding| {
            let remedy = finding.remedy.as_deref().map(|remedy| format!("; {remedy}"));
            format!("{}: {}{}", finding.path, finding.message, remedy.unwrap_or_default())
        })
        .collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// One measurement decides: no waiting, and the first failure is one.
fn once(metric: &mut Metric) {
    metric.count = Some(IntOrString::Int(1));
    metric.interval = None;
    metric.initial_delay = None;
    metric.failure_limit = None;
    metric.inconclusive_limit = None;
    metric.consecutive_success_limit = None;
}

/// Turns a metric to another server and another time.
fn direct(metric: &mut Metric, address: Option<&str>, at: Option<Timestamp>) -> anyhow::Result<()> {
    if metric.compare.is_some() {
        bail!(
            "metric {}: compare needs both versions of a release over a while, and analyze asks \
             once: look at the AnalysisRun of a release",
            metric.name
        );
    }
    let Some(provider) = metric.provider.as_mut() else { return Ok(()) };
    let Some(prometheus) = provider.prometheus.as_mut() else {
        if at.is_some() {
            bail!("metric {}: --at is only for Prometheus queries: leave it out", metric.name);
        }
        return Ok(());
    };
    if at.is_some() && prometheus.range_query.is_some() {
        bail!("metric {}: --at is not for a rangeQuery: leave it out", metric.name);
    }
    if let Some(address) = address {
        Server::at(address).map_err(|error| anyhow!("--provider-address: {error}"))?;
        prometheus.address = Some(address.to_owned());
        provider.ref_ = None;
        provider.cluster_scope = false;
    }
    if let (Some(address), Some(at)) = (prometheus.address.as_mut(), at) {
        address.push_str(&as_of(address, at));
    }
    Ok(())
}

/// What is added to an address so that Prometheus answers as of `at`.
fn as_of(address: &str, at: Timestamp) -> String {
    let joint = if address.contains('?') { '&' } else { '?' };
    format!("{joint}time={at}")
}

/// `NAME=VALUE` words as arguments; every declared argument must end up with a value.
pub(in crate::cli) fn values(
    words: &[String],
    specs: &[(String, AnalysisTemplateSpec)],
) -> anyhow::Result<Vec<Arg>> {
    let declared: Vec<_> = specs.iter().flat_map(|(_, spec)| &spec.args).collect();
    let mut given = BTreeMap::new();
    for word in words {
        let (name, value) = word
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| anyhow!("--arg {word:?}: write --arg NAME=VALUE"))?;
        if !declared.iter().any(|arg| arg.name == name) {
            let known: Vec<_> = declared.iter().map(|arg| arg.name.as_str()).collect();
            bail!("--arg {name}: the template has no such argument; it has {}", known.join(", "));
        }
        if given.insert(name.to_owned(), value.to_owned()).is_some() {
            bail!("--arg {name} is given twice: give each argument once");
        }
    }
    let open: Vec<_> = declared
        .iter()
        .filter(|arg| {
            let valued = declared
                .iter()
                .any(|a| a.name == arg.name && (a.value.is_some() || secret_of(a).is_some()));
            !valued && !given.contains_key(&arg.name)
        })
        .map(|arg| format!("--arg {}=VALUE", arg.name))
        .collect();
    if !open.is_empty() {
        bail!("arguments without a value: write {}", open.join(" "));
    }
    let args = given.into_iter();
    Ok(args.map(|(name, value)| Arg { name, value: ArgValue::Text(value) }).collect())
}

/// `2026-11-21T18:00:00Z`, or `90m` for that long before `now`; `flag` is what it was given for.
pub(in crate::cli) fn instant(text: &str, now: Timestamp, flag: &str) -> anyhow::Result<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let ago =
        humantime::parse_duration(text).ok().and_then(|ago| SignedDuration::try_from(ago).ok());
    ago.and_then(|ago| now.checked_sub(ago).ok()).ok_or_else(|| {
        anyhow!("{flag} {text:?}: write 2026-11-21T18:00:00Z, or 90m for that long ago")
    })
}

/// The MetricProviders of the files with the Secrets of the files, as of `at`.
pub(in crate::cli) fn catalog(
    objects: &[Value],
    namespace: &str,
    at: Option<Timestamp>,
) -> Catalog {
    let mut catalog = Catalog::default();
    for object in objects {
        let kind = text(object, "/kind");
        if !matches!(kind, "MetricProvider" | "ClusterMetricProvider") {
            continue;
        }
        let own = Some(text(object, "/metadata/namespace")).filter(|own| !own.is_empty());
        let own = own.unwrap_or(namespace).to_owned();
        let name = text(object, "/metadata/name").to_owned();
        let server = server(object, objects, at);
        if kind == "MetricProvider" {
            catalog.namespaced.insert((own, name), server);
        } else {
            catalog.cluster.insert(name, server);
        }
    }
    catalog
}

fn server(
    object: &Value,
    objects: &[Value],
    at: Option<Timestamp>,
) -> Result<Server, ProviderError> {
    let spec = object.get("spec").cloned().unwrap_or_default();
    let spec: MetricProviderSpec =
        serde_json::from_value(spec).map_err(|e| ProviderError::Misconfigured(e.to_string()))?;
    let mut server = Server::from_spec(&spec, |reference| secret(objects, reference))?;
    if let Some(at) = at {
        server.address.query_pairs_mut().append_pair("time", &at.to_string());
    }
    Ok(server)
}

/// The Secrets that the run's arguments name.
pub(in crate::cli) fn secrets(run: &AnalysisRun, objects: &[Value]) -> anyhow::Result<Secrets> {
    let mut secrets = Secrets::default();
    for at in secrets_needed(run) {
        let value = secret(objects, &at).map_err(|error| anyhow!("{error}"))?;
        secrets.insert(&at, value);
    }
    Ok(secrets)
}

/// The value of a Secret's key, from the Secrets of the files.
fn secret(objects: &[Value], reference: &SecretKeyRef) -> Result<String, ProviderError> {
    given(objects, reference).ok_or_else(|| {
        let SecretKeyRef { name, key } = reference;
        let remedy = "give its file with -f too";
        ProviderError::Misconfigured(format!("Secret {name:?} has no key {key:?}: {remedy}"))
    })
}

fn given(objects: &[Value], reference: &SecretKeyRef) -> Option<String> {
    let named =
        |o: &&Value| text(o, "/kind") == "Secret" && text(o, "/metadata/name") == reference.name;
    let object = objects.iter().find(named)?;
    let mut secret: Secret = serde_json::from_value(object.clone()).ok()?;
    if let Some(plain) = secret.string_data.as_mut().and_then(|d| d.remove(&reference.key)) {
        return Some(plain);
    }
    String::from_utf8(secret.data?.remove(&reference.key)?.0).ok()
}
