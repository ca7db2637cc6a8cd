//! Manifests from where a person has them: files, folders, standard input.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::args::LintOutput;
use super::lint::{Linter, Report};
use super::say;

/// A text and where it was read.
pub(crate) type Text = (String, String);

/// Checks manifests; the exit code is the report's.
///
/// # Errors
/// A file cannot be read.
pub(crate) fn lint(paths: &[PathBuf], output: LintOutput) -> anyhow::Result<u8> {
    let linter = Linter::default();
    let mut report = Report::default();
    for (source, text) in read(paths)? {
        report.add(&linter, &source, &text);
    }
    report.finish();
    let text = match output {
        LintOutput::Text => report.to_text(),
        LintOutput::Json => report.to_json(),
        LintOutput::Sarif => report.to_sarif(),
        LintOutput::Yaml => serde_saphyr::to_string(&report)?,
    };
    say(text.trim_end());
    Ok(report.outcome().exit_code())
}

/// Every manifest: `-` is standard input, of a folder the YAML and JSON files in it and below, by name.
///
/// # Errors
/// Something cannot be read.
pub(crate) fn read(paths: &[PathBuf]) -> anyhow::Result<Vec<Text>> {
    let mut all = Vec::new();
    for path in paths {
        if path == Path::new("-") {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("reading standard input")?;
            all.push(("-".to_owned(), text));
        } else {
            collect(path, true, &mut all)?;
        }
    }
    Ok(all)
}

fn collect(path: &Path, named: bool, all: &mut Vec<Text>) -> anyhow::Result<()> {
    let reading = || format!("reading {}", path.display());
    if path.is_dir() {
        let entries = std::fs::read_dir(path).with_context(reading)?;
        let mut inside =
            entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
        inside.sort();
        return inside.iter().try_for_each(|path| collect(path, false, all));
    }
    let ending = path.extension().and_then(std::ffi::OsStr::to_str);
    if named || matches!(ending, Some("yaml" | "yml" | "json")) {
        let text = std::fs::read_to_string(path).with_context(reading)?;
        all.push((path.display().to_string(), text));
    }
    Ok(())
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
        let missing = read(&[at("none.yaml")]).unwrap_err();
        assert!(missing.to_string().contains("none.yaml"), "{missing}");
    }
}
