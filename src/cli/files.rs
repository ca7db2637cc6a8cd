//! Manifests from where a person has them: files, folders, standard input.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::args::LintOutput;
use super::lint::{Linter, Outcome, Report};
use super::{complain, say};

/// A text and where it was read.
pub(crate) type Text = (String, String);

/// Checks manifests; the exit code is the report's, and 1 where a file cannot be read.
///
/// # Errors
/// The report cannot be written.
pub(crate) fn lint(paths: &[PathBuf], output: LintOutput) -> anyhow::Result<u8> {
    let linter = Linter::default();
    let mut report = Report::default();
    let mut unread = false;
    for (source, text) in texts(paths) {
        match text {
            Ok(text) => report.add(&linter, &source, &text),
            Err(error) => {
                complain(&format!("{error:#}"));
                unread = true;
            }
        }
    }
    report.finish();
    if unread && report.outcome() == Outcome::Nothing {
        return Ok(1);
    }
    let text = match output {
        LintOutput::Text => report.to_text(),
        LintOutput::Json => report.to_json(),
        LintOutput::Sarif => report.to_sarif(),
        LintOutput::Yaml => serde_saphyr::to_string(&report)?,
    };
    say(text.trim_end());
    Ok(if unread { 1 } else { report.outcome().exit_code() })
}

/// Every manifest: `-` is standard input, of a folder the YAML and JSON files in it and below, by name.
///
/// # Errors
/// Something cannot be read.
pub(crate) fn read(paths: &[PathBuf]) -> anyhow::Result<Vec<Text>> {
    texts(paths).into_iter().map(|(source, text)| Ok((source, text?))).collect()
}

/// Each where it was read, or why it cannot be.
fn texts(paths: &[PathBuf]) -> Vec<(String, anyhow::Result<String>)> {
    let mut all = Vec::new();
    for path in paths {
        if path == Path::new("-") {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            all.push(("-".to_owned(), read.map(|_| text).context("reading standard input")));
        } else {
            collect(path, true, &mut all);
        }
    }
    all
}

fn collect(path: &Path, named: bool, all: &mut Vec<(String, anyhow::Result<String>)>) {
    let shown = path.display().to_string();
    let reading = || format!("reading {}", path.display());
    if path.is_dir() {
        // One that leads back would be read again and again.
        if !named && path.is_symlink() {
            return;
        }
        let entries = std::fs::read_dir(path).and_then(|entries| {
            entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()
        });
        match entries.with_context(reading) {
            Ok(mut inside) => {
                inside.sort();
                inside.iter().for_each(|path| collect(path, false, all));
            }
            Err(error) => all.push((shown, Err(error))),
        }
        return;
    }
    let ending = path.extension().and_then(std::ffi::OsStr::to_str);
    if named || matches!(ending, Some("yaml" | "yml" | "json")) {
        all.push((shown, std::fs::read_to_string(path).with_context(reading)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_its_manifests_by_name_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("below")).unwrap();
        for name in ["b.yml", "a.yaml", "notes.txt", "below/c.json"] {
            std::fs::write(at(name), name).unwrap();
        }
        let texts = |paths: &[PathBuf]| {
            read(paths).unwrap().into_iter().map(|(_, text)| text).collect::<Vec<_>>()
        };
        assert_eq!(texts(&[folder.path().to_owned()]), ["a.yaml", "b.yml", "below/c.json"]);
        assert_eq!(texts(&[at("notes.txt")]), ["notes.txt"], "a file that is named is read");
        std::os::unix::fs::symlink(".", at("again")).unwrap();
        assert_eq!(
            texts(&[folder.path().to_owned()]).len(),
            3,
            "a link to a folder is not followed"
        );
        let missing = read(&[at("none.yaml")]).unwrap_err();
        assert!(missing.to_string().contains("none.yaml"), "{missing}");
    }
}
