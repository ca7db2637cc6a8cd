//! `sluice install` and `sluice uninstall`.
//!
//! Uninstall begins with the workloads: nothing that holds one is deleted before the workload has its
//! own fields back. It goes on after a failure, says it, and ends with exit code 1.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde_json::{Value, json};

use super::args::{Cluster, Install};
use super::client::patiently;
use super::manifests::{self, Choices, NAME};
use super::{let_go, say, verbs};
use crate::api::{FINALIZER, Gate, Rollout, crds};
use crate::apply::{Answer, Http, Target};
use crate::clock::{Clock, SystemClock};

/// Where the controller runs when nothing else is said.
const HOME: &str = "sluice-system";
/// Looks at something that needs a moment, [`PAUSE`] apart: half a minute.
const LOOKS: usize = 120;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);

const NO_POLICIES: &str = "the admission policies are left out: this API server does not serve \
    MutatingAdmissionPolicy v1 (Kubernetes 1.36 and later do); the controller pauses a changed \
    workload within one watch event instead";
const NO_LINT: &str = "the warnings at admission are left out: this API server does not serve \
    ValidatingAdmissionPolicy v1; `sluice lint` and the templates' condition Accepted say the same";
const OURS: &str = "/apis/sluice.dev/v1beta1";
const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies";
const LINT: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
/// What every controller carries, as a query.
const LABELS: &str = "app.kubernetes.io/name%3Dsluice,app.kubernetes.io/component%3Dcontroller";

/// Applies every object, or prints them.
///
/// # Errors
/// No cluster, or the API server refuses.
pub(crate) async fn install(args: &Install) -> anyhow::Result<String> {
    let choices = Choices {
        namespace: args.cluster.namespace.clone().unwrap_or_else(|| HOME.to_owned()),
        image: args.image.clone(),
        prometheus: args.prometheus.clone(),
    };
    // The controller would end by it, long after this has said that all is well.
    super::controller::server_of(args.prometheus.as_deref())?;
    if args.dry_run {
        let mut out = String::new();
        for object in manifests::everything(&choices)? {
            out.push_str("---\n");
            out.push_str(&serde_saphyr::to_string(&object)?);
        }
        return Ok(out.trim_end().to_owned());
    }
    let (client, _) = args.cluster.connect().await?;
    onto(&client, &choices).await?;
    Ok(format!(
        "installed; see it start with: kubectl -n {} rollout status deployment {NAME}",
        choices.namespace
    ))
}

/// Applies every object to the cluster of a client.
async fn onto(client: &kube::Client, choices: &Choices) -> anyhow::Result<()> {
    apply(client, &manifests::namespace(&choices.namespace)).await?;
    let definitions = crds::shipped();
    for object in definitions {
        apply(client, object).await?;
    }
    for object in definitions {
        established(client, object).await?;
    }
    where_served(client, POLICIES, &manifests::policies()?, NO_POLICIES).await?;
    where_served(client, LINT, &manifests::lint()?, NO_LINT).await?;
    for object in manifests::program(choices)? {
        apply(client, &object).await?;
    }
    Ok(())
}

/// Applies objects of a kind that an older API server does not serve; it works without them.
async fn where_served(
    client: &kube::Client,
    at: &str,
    objects: &[Value],
    without: &str,
) -> anyhow::Result<()> {
    match Http::get(at).send(client).await {
        Ok(_) => {
            for object in objects {
                apply(client, object).await?;
            }
        }
        Err(e) if e.code() == Some(404) => {
            say(without);
        }
        Err(e) => return Err(e.into()),
    }
    Ok(())
}

async fn apply(client: &kube::Client, object: &Value) -> anyhow::Result<()> {
    let at = manifests::path(object)?;
    patiently(|| Http::server_side_apply(at.clone(), object.clone()).send(client)).await?;
    say(&format!("{}: applied", manifests::title(object)));
    Ok(())
}

/// Waits until a definition is served.
async fn established(client: &kube::Client, object: &Value) -> anyhow::Result<()> {
    let at = manifests::path(object)?;
    for _ in 0..LOOKS {
        let found = Http::get(at.clone()).send(client).await?;
        let conditions = found.pointer("/status/conditions").and_then(Value::as_array);
        let is = |condition: &Value| {
            condition.get("type") == Some(&json!("Established"))
                && condition.get("status") == Some(&json!("True"))
        };
        if conditions.is_some_and(|all| all.iter().any(is)) {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
    bail!(
        "{} is not served yet: kubectl describe it, then run install again",
        manifests::title(object)
    )
}

/// What `sluice uninstall` was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// Leave the definitions.
    pub keep_crds: bool,
    /// Let go of the workloads and leave every object that was installed.
    pub let_go_only: bool,
    /// Say what would be done, and change nothing.
    pub dry_run: bool,
}

/// Lets go of every workload, then takes everything away. The exit code is 1 when something is left.
///
/// # Errors
/// No cluster, or it cannot be read.
pub(crate) async fn uninstall(cluster: &Cluster, extent: Extent) -> anyhow::Result<u8> {
    let home = cluster.namespace.clone().unwrap_or_else(|| HOME.to_owned());
    let (client, _) = cluster.connect().await?;
    let controllers =
        items(&client, &format!("/apis/apps/v1/deployments?labelSelector={LABELS}")).await?;
    elsewhere(&controllers, &home)?;
    let mut away = Away { client, dry: extent.dry_run, held: 0, left: 0 };
    away.stop_controller(&home).await?;
    away.let_go_of_all().await?;
    if extent.let_go_only {
        if extent.dry_run {
            say("nothing was changed");
        }
        return Ok(away.code());
    }
    let choices = Choices { namespace: home.clone(), image: String::new(), prometheus: None };
    let mut objects = manifests::program(&choices)?;
    objects.push(manifests::lease(&home));
    objects.extend(manifests::policies()?);
    objects.extend(manifests::lint()?);
    if extent.keep_crds {
        say("the definitions and the Rollouts stay, as asked for");
    } else if away.held > 0 {
        say("the definitions stay, because a workload is still held: run uninstall again");
    } else {
        let definitions = crds::shipped();
        if let Some(warning) = away.lost_with(definitions).await? {
            say(&warning);
        }
        objects.extend_from_slice(definitions);
    }
    for object in objects.iter().rev() {
        away.delete(object).await;
    }
    if extent.dry_run {
        say("nothing was changed");
        return Ok(away.code());
    }
    say(&format!("Namespace {home} stays: delete it if nothing else lives there"));
    Ok(away.code())
}

/// Everything but the controller's own objects is the whole cluster's: they are not taken from under a
/// controller that stays.
fn elsewhere(controllers: &[Value], home: &str) -> anyhow::Result<()> {
    let lives = |object: &Value| {
        object.pointer("/metadata/namespace").and_then(Value::as_str).map(str::to_owned)
    };
    let all: BTreeSet<String> = controllers.iter().filter_map(lives).collect();
    if all.is_empty() || all.contains(home) {
        return Ok(());
    }
    let all = all.into_iter().collect::<Vec<_>>().join(", ");
    bail!("the controller runs in {all}, not in {home}: pass that with -n; nothing was changed")
}

/// An uninstall under way.
struct Away {
    client: kube::Client,
    /// It is only said.
    dry: bool,
    /// Workloads that could not be let go.
    held: usize,
    /// Objects that could not be deleted.
    left: usize,
}

impl Away {
    fn code(&self) -> u8 {
        u8::from(self.held + self.left > 0)
    }

    /// The answer to a write, which nothing comes of where it is only said.
    async fn sent(&self, write: Http) -> Answer {
        let write = if self.dry { write.dry_run() } else { write };
        write.send(&self.client).await
    }

    /// Two that decide would undo each other's work.
    async fn stop_controller(&self, home: &str) -> anyhow::Result<()> {
        let at = format!("/apis/apps/v1/namespaces/{home}/deployments/{NAME}");
        let body = json!({"spec": {"replicas": 0}});
        match self.sent(Http::merge(at, body)).await {
            Ok(_) if self.dry => {
                say(&format!("Deployment {home}/{NAME}: would be stopped"));
                return Ok(());
            }
            Ok(_) => {}
            Err(e) if e.code() == Some(404) => {
                say(&format!("Deployment {home}/{NAME}: there is none"));
                return Ok(());
            }
            Err(e) => return Err(e.into()),
        }
        let pods = format!("/api/v1/namespaces/{home}/pods?labelSelector={LABELS}");
        for _ in 0..LOOKS {
            if items(&self.client, &pods).await?.is_empty() {
                say(&format!("Deployment {home}/{NAME}: stopped"));
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        say(&format!("Deployment {home}/{NAME}: its pods are slow to end; going on without them"));
        Ok(())
    }

    async fn let_go_of_all(&mut self) -> anyhow::Result<()> {
        let rollouts: Vec<Rollout> = read_all(&self.client, "rollouts").await?;
        let gates: Vec<Gate> = read_all(&self.client, "gates").await?;
        let mut known = BTreeSet::new();
        let mut still_held = BTreeSet::new();
        for rollout in &rollouts {
            let meta = &rollout.metadata;
            let namespace = meta.namespace.clone().unwrap_or_default();
            let name = meta.name.clone().unwrap_or_default();
            known.insert((namespace.clone(), name.clone()));
            if !is_ours_to_end(rollout, &gates) {
                continue;
            }
            if self.dry {
                say(&format!("Rollout {namespace}/{name}: its workload would be let go"));
                continue;
            }
            let done = verbs::release(&self.client, &namespace, rollout).await;
            match done {
                Ok(_) => say(&format!("Rollout {namespace}/{name}: its workload is let go")),
                Err(e) => {
                    self.held += 1;
                    still_held.insert(namespace.clone());
                    say(&format!("Rollout {namespace}/{name}: still held: {e:#}"));
                }
            }
            if let Some(rests) = let_go::rests(&self.client, &namespace, rollout).await {
                say(&rests);
            }
        }
        for gate in &gates {
            let namespace = gate.metadata.namespace.clone().unwrap_or_default();
            let mut free = !still_held.contains(&namespace);
            for (workload, entry) in &gate.spec.deployments {
                let rollout = entry.rollout.clone().unwrap_or_default();
                let has_rollout = known.contains(&(namespace.clone(), rollout.clone()));
                if has_rollout || entry.release.is_none() {
                    continue;
                }
                if self.dry {
                    say(&format!("Deployment {namespace}/{workload}: would be let go"));
                    continue;
                }
                let done = self.let_go_of_orphan(&namespace, &rollout).await;
                free &= done.is_ok();
                self.held += usize::from(done.is_err());
                match done {
                    Ok(()) => say(&format!("Deployment {namespace}/{workload}: let go")),
                    Err(e) => say(&format!("Deployment {namespace}/{workload}: still held: {e:#}")),
                }
            }
            if free {
                self.delete_gate(&namespace).await;
            }
        }
        Ok(())
    }

    /// An entry whose Rollout is gone: the same plan as the controller's.
    async fn let_go_of_orphan(&self, namespace: &str, name: &str) -> anyhow::Result<()> {
        let account = let_go::who_am_i(&self.client).await?;
        // The policy lets only the Gate's account turn what is held.
        let gate = format!("{OURS}/namespaces/{namespace}/gates/{}", crate::api::GATE_NAME);
        let body = json!({"spec": {"account": account}});
        Http::merge(gate, body).send(&self.client).await?;
        for _ in 0..LOOKS {
            let world = let_go::read(&self.client, namespace).await?;
            if let Some(why) = world.blind() {
                bail!("{why}");
            }
            let Some((rollout, plan)) = world.orphan(namespace, name) else { return Ok(()) };
            let now = SystemClock.now();
            let gate = world.gate_at(namespace);
            let instance = "sluice uninstall";
            let target = Target { rollout: &rollout, account: &account, instance, now, gate };
            let_go::carried(&self.client, &target, &plan).await?;
            tokio::time::sleep(PAUSE).await;
        }
        Err(anyhow!("its fields do not come back: see kubectl -n {namespace} get deployments"))
    }

    async fn delete_gate(&mut self, namespace: &str) {
        let at = format!("{OURS}/namespaces/{namespace}/gates/{}", crate::api::GATE_NAME);
        // What it remembers goes with it.
        let gate = Http::get(at.clone()).send(&self.client).await.unwrap_or_default();
        let left = gate.pointer("/spec/letGo").and_then(Value::as_object);
        for (workload, left) in left.into_iter().flatten() {
            let surge = left.get("maxSurge").cloned().unwrap_or_default();
            let is = left.get("surge").and_then(Value::as_i64).unwrap_or(0);
            say(&format!(
                "Deployment {namespace}/{workload}: paused in mid-release with maxSurge {is}; write yours again, \
                 {surge}, when one version is left"
            ));
        }
        self.delete_at(&at, &format!("Gate {namespace}/{}", crate::api::GATE_NAME)).await;
    }

    /// What the API server deletes with the definitions, in a sentence.
    async fn lost_with(&self, definitions: &[Value]) -> anyhow::Result<Option<String>> {
        let mut lost = Vec::new();
        for definition in definitions {
            let text = |at| definition.pointer(at).and_then(Value::as_str).unwrap_or_default();
            let count =
                items(&self.client, &format!("{OURS}/{}", text("/spec/names/plural"))).await?;
            if !count.is_empty() {
                lost.push(format!("{} {}", count.len(), text("/spec/names/kind")));
            }
        }
        let all = lost.join(", ");
        Ok((!lost.is_empty()).then(|| {
            format!("with the definitions go their objects: {all}; --keep-crds would keep them")
        }))
    }

    async fn delete(&mut self, object: &Value) {
        let title = manifests::title(object);
        match manifests::path(object) {
            Ok(at) => self.delete_at(&at, &title).await,
            Err(e) => {
                self.left += 1;
                say(&format!("{title}: {e}"));
            }
        }
    }

    async fn delete_at(&mut self, at: &str, title: &str) {
        let body = json!({"propagationPolicy": "Background"});
        let done = if self.dry { "would be deleted" } else { "deleted" };
        match patiently(|| self.sent(Http::delete(at, body.clone()))).await {
            Ok(_) => say(&format!("{title}: {done}")),
            Err(e) if e.code() == Some(404) => {}
            Err(e) => {
                self.left += 1;
                say(&format!("{title}: stays: {}", e.advice()));
            }
        }
    }
}

/// True when something of the workload or of the Rollout is in our hands.
fn is_ours_to_end(rollout: &Rollout, gates: &[Gate]) -> bool {
    let meta = &rollout.metadata;
    let finalizer = meta.finalizers.iter().flatten().any(|f| f == FINALIZER);
    let release = rollout.status.as_ref().is_some_and(|status| status.release.is_some());
    let entry = gates.iter().filter(|gate| gate.metadata.namespace == meta.namespace).any(|gate| {
        let mut entries = gate.spec.deployments.values();
        entries.any(|entry| entry.rollout.is_some() && entry.rollout == meta.name)
    });
    finalizer || release || entry
}

async fn items(client: &kube::Client, at: &str) -> anyhow::Result<Vec<Value>> {
    let list = match patiently(|| Http::get(at).send(client)).await {
        Ok(list) => list,
        // The definition is gone already.
        Err(e) if e.code() == Some(404) => return Ok(Vec::new()),
        Err(e) => return Err(e.into()),
    };
    Ok(list.get("items").and_then(Value::as_array).cloned().unwrap_or_default())
}

async fn read_all<T: serde::de::DeserializeOwned>(
    client: &kube::Client,
    plural: &str,
) -> anyhow::Result<Vec<T>> {
    let found = items(client, &format!("{OURS}/{plural}")).await?;
    let read = |item| serde_json::from_value(item).with_context(|| format!("reading {plural}"));
    found.into_iter().map(read).collect()
}
