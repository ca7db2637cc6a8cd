//! The custom resource definitions: the files in `crds/` are what the types say.

use std::path::{Path, PathBuf};

use sluice::api::crds;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("crds")
}

#[test]
fn crds_on_disk_are_what_the_types_say() {
    let update = std::env::var_os("UPDATE_CRDS").is_some();
    let mut names = Vec::new();
    for crd in crds::all() {
        let name = crds::file_name(&crd);
        let path = folder().join(&name);
        let text = crds::yaml(&crd);
        if update {
            std::fs::write(&path, &text).unwrap();
        }
        let on_disk = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(on_disk == text, "crds/{name} differs from the types; run with UPDATE_CRDS=1");
        names.push(name);
    }
    let mut found: Vec<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, names, "crds/ holds exactly one file per kind");
}

#[test]
fn the_binary_carries_every_definition() {
    let name_of = |crd: &serde_json::Value| crd["metadata"]["name"].as_str().unwrap().to_owned();
    let carried: Vec<_> = crds::shipped().iter().map(name_of).collect();
    let all = crds::all();
    let names: Vec<_> = all.iter().map(|crd| crd.metadata.name.clone().unwrap()).collect();
    assert_eq!(carried, names);
    let texts: Vec<_> = all.iter().map(crds::yaml).collect();
    assert_eq!(crds::shipped_yaml(), texts.join("---\n"));
}
