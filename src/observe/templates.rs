//! Analysis templates: what they are, and what was said of them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::objects::{Kind, Object};
use super::world::{Key, Name, World};
use crate::analysis::TemplateKey;
use crate::api::AnalysisTemplateSpec;
use crate::api::analysis::TemplateStatus;
use crate::api::rollout::TemplateRef;

/// What a write to a template's status needs.
#[derive(Clone, Debug, Default)]
pub struct TemplateHead {
    /// Its uid.
    pub uid: String,
    /// Its resourceVersion.
    pub version: u64,
    /// Its generation.
    pub generation: i64,
    /// What was said of it.
    pub status: TemplateStatus,
}

/// A template among those that it could name.
#[derive(Clone, Debug)]
pub struct TemplateView {
    /// Scope and name.
    pub key: TemplateKey,
    /// What it is.
    pub spec: AnalysisTemplateSpec,
    /// What a write needs.
    pub head: TemplateHead,
    /// What every template around it names.
    pub named: BTreeMap<TemplateKey, Vec<TemplateRef>>,
}

impl World {
    /// A template; its namespace is empty for a ClusterAnalysisTemplate.
    #[must_use]
    pub fn template(&self, namespace: &str, name: &str) -> Option<TemplateView> {
        let id = (namespace.to_owned(), name.to_owned());
        let cluster = namespace.is_empty();
        let spec = match cluster {
            true => self.cluster_templates.get(name),
            false => self.templates.get(&id),
        };
        let spec = spec?.clone();
        let around = self.cluster_templates.iter().map(|(name, spec)| ((true, name), spec));
        let beside = self.beside(namespace).map(|((_, name), spec)| ((false, name), spec));
        let named = around.chain(beside.filter(|_| !cluster));
        Some(TemplateView {
            key: (cluster, name.to_owned()),
            head: self.heads.get(&id).cloned().unwrap_or_default(),
            named: named
                .map(|((scope, name), spec)| ((scope, name.clone()), spec.templates.clone()))
                .collect(),
            spec,
        })
    }

    fn beside<'a>(
        &'a self,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a Name, &'a AnalysisTemplateSpec)> {
        let from = (namespace.to_owned(), String::new());
        self.templates.range(from..).take_while(move |((ns, _), _)| ns == namespace)
    }

    /// Takes a template in. A status that was written wakes nobody but the template.
    pub(super) fn take_template(
        &mut self,
        kind: Kind,
        id: Name,
        meta: &Object,
        value: &Value,
    ) -> Vec<Key> {
        let spec = AnalysisTemplateSpec::deserialize(value.get("spec").unwrap_or(&Value::Null));
        let spec = match spec {
            Ok(spec) => spec,
            Err(e) => return self.cannot_read(kind, id, &e),
        };
        let status = value.get("status").and_then(|s| TemplateStatus::deserialize(s).ok());
        let head = TemplateHead {
            uid: meta.uid.clone(),
            version: meta.version,
            generation: value.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0),
            status: status.unwrap_or_default(),
        };
        self.heads.insert(id.clone(), head);
        let before = match kind {
            Kind::ClusterAnalysisTemplate => {
                self.cluster_templates.insert(id.1.clone(), spec.clone())
            }
            _ => self.templates.insert(id.clone(), spec.clone()),
        };
        let own = key_of(&id.0, &id.1);
        if before.as_ref() == Some(&spec) {
            return vec![own];
        }
        let mut keys = self.around_template(&id.0);
        keys.push(own);
        keys
    }

    pub(super) fn drop_template(&mut self, id: &Name) -> Vec<Key> {
        self.heads.remove(id);
        match id.0.as_str() {
            "" => self.cluster_templates.remove(&id.1),
            _ => self.templates.remove(id),
        };
        let mut keys = self.around_template(&id.0);
        // What the engine remembers of it goes too.
        keys.push(key_of(&id.0, &id.1));
        keys
    }

    /// The Rollouts that may use a template of this namespace, and the templates that may name it.
    fn around_template(&self, namespace: &str) -> Vec<Key> {
        let mut keys =
            if namespace.is_empty() { self.everybody() } else { self.in_namespace(namespace) };
        let names = |spec: &AnalysisTemplateSpec| !spec.templates.is_empty();
        let beside =
            self.templates.iter().filter(|((ns, _), _)| namespace.is_empty() || ns == namespace);
        let beside = beside.filter(|(_, spec)| names(spec));
        keys.extend(beside.map(|((ns, name), _)| key_of(ns, name)));
        let around = self.cluster_templates.iter().filter(|(_, spec)| names(spec));
        keys.extend(around.map(|(name, _)| key_of("", name)));
        keys
    }

    /// Every template.
    pub(super) fn all_templates(&self) -> impl Iterator<Item = Key> {
        self.heads.keys().map(|(namespace, name)| key_of(namespace, name))
    }
}

fn key_of(namespace: &str, name: &str) -> Key {
    Key::Template { namespace: namespace.to_owned(), name: name.to_owned() }
}
