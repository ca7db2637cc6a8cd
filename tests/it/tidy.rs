//! The house rules that a compiler does not know: which room uses which, how long things are, words
//! that do not belong, and a `//!` in every module. Exceptions are listed with their reason.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

/// The rooms by line: a room uses only rooms on earlier lines.
const LINES: &[&[&str]] = &[
    &["units", "clock", "telemetry", "stats"],
    &["api"],
    &["spec", "workload", "traffic", "analysis", "rollout", "fleet"],
    &["observe", "apply", "providers", "hooks", "alerts", "notify"],
    &["controller", "admission", "server"],
    &["sim"],
    &["cli", "main"],
];

/// The line on which a room may also use the rooms named before it.
const ORDERED: usize = 2;

/// Uses that break the table, with the reason: (room, used room, reason).
const USES: &[(&str, &str, &str)] = &[
    ("apply", "observe", "one table of the kinds that are read and written"),
    ("hooks", "providers", "one way to read Secrets, to verify servers and to sign"),
];

/// Files that are longer than they should be: (file, reason).
const LONG_FILES: &[(&str, &str)] = &[];

/// Functions that are longer than they should be: (file, function, reason).
const LONG_FUNCTIONS: &[(&str, &str, &str)] =
    &[("src/apply/actions.rs", "one", "one arm for each action")];

const FILE: usize = 600;
const TEST_FILE: usize = 900;
const FUNCTION: usize = 70;
/// Columns of a line. rustfmt does not wrap comments, so those get ten more; nor does it break
/// texts, so lines with a long one are its business.
const WIDTH: usize = 100;
const COMMENT_WIDTH: usize = 110;

/// Words that do not belong into code, with what to do instead.
const BANNED: &[(&str, &str)] = &[
    (r"\bTODO\b", "do it, or leave it out"),
    (r"\bFIXME\b", "do it, or leave it out"),
    (r"\bXXX\b", "do it, or leave it out"),
    (r"\bHACK\b", "say why it is so"),
    (r"dbg!\(", "take it out"),
    (r"/tmp/|/work/|/root/|/home/", "no path of a machine"),
    (r"^\s*//\s*(=|-|\*|#){4,}", "no banners"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

struct Source {
    /// Relative to the crate, with `/`.
    path: String,
    text: String,
}

impl Source {
    fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.ends_with("tests.rs")
            || self.path.contains("/tests/")
    }

    fn room(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        inside.split(['/', '.']).next().filter(|room| *room != "lib")
    }
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for folder in ["src", "tests", "benches"] {
        collect(&root().join(folder), &mut found);
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 50, "the walk found {} files", found.len());
    found
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let relative = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
            found.push(Source { path: relative, text: std::fs::read_to_string(&path).unwrap() });
        }
    }
}

/// The place of a room: its line and its place in the line.
fn place(room: &str) -> Option<(usize, usize)> {
    LINES.iter().enumerate().find_map(|(line, rooms)| {
        rooms.iter().position(|known| *known == room).map(|at| (line, at))
    })
}

fn may_use(room: &str, used: &str) -> bool {
    if room == used || USES.iter().any(|(a, b, _)| *a == room && *b == used) {
        return true;
    }
    match (place(room), place(used)) {
        (Some((line, at)), Some((used_line, used_at))) => {
            used_line < line || (line == ORDERED && used_line == ORDERED && used_at < at)
        }
        _ => false,
    }
}

/// The rooms that a line names: `crate::room::...`, also in a `{...}` list.
fn used_rooms(line: &str) -> Vec<String> {
    let code = line.split("//").next().unwrap_or_default();
    static ONE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\bcrate::([a-z_]+)").unwrap());
    static MANY: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\bcrate::\{([^}]*)").unwrap());
    let mut rooms: Vec<String> = ONE.captures_iter(code).map(|c| c[1].to_owned()).collect();
    for list in MANY.captures_iter(code) {
        let names = list[1].split(',').map(|name| name.trim().split("::").next().unwrap_or(""));
        rooms.extend(names.filter(|n| !n.is_empty()).map(str::to_owned));
    }
    rooms
}

#[test]
fn a_room_uses_only_rooms_on_earlier_lines() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|s| s.path.starts_with("src/") && !s.is_test()) {
        let Some(room) = source.room() else { continue };
        assert!(place(room).is_some(), "{}: {room} is no room of the table", source.path);
        let code = source.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate() {
            for used in used_rooms(line) {
                if place(&used).is_some() && !may_use(room, &used) {
                    wrong.push(format!("{}:{}: {room} uses {used}", source.path, number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn pure_rooms_know_no_runtime_client_or_chance() {
    let banned = [
        r"\btokio::",
        r"\breqwest::",
        r"\bkube::Client\b",
        r"\bkube::client::",
        r"\bkube_client::",
        r"\brand::",
        r"Timestamp::now\(",
        r"Instant::now\(",
        r"SystemTime::now\(",
        r"\basync fn\b",
    ];
    let banned: Vec<Regex> = banned.iter().map(|b| Regex::new(b).unwrap()).collect();
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|s| !s.is_test()) {
        let pure = source.room().and_then(place).is_some_and(|(line, _)| line <= ORDERED);
        // The one place that reads the wall clock.
        if !pure || source.path == "src/clock.rs" {
            continue;
        }
        let code = source.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in banned.iter().filter(|word| word.is_match(code)) {
                wrong.push(format!("{}:{}: {word}", source.path, number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_functions_and_lines_are_short() {
    let mut wrong = Vec::new();
    for source in sources() {
        let path = source.path.as_str();
        let (limit, count) =
            (if source.is_test() { TEST_FILE } else { FILE }, source.text.lines().count());
        if count > limit && !LONG_FILES.iter().any(|(file, _)| *file == path) {
            wrong.push(format!("{path}: {count} lines, at most {limit}"));
        }
        for (number, line) in source.text.lines().enumerate() {
            let width = line.chars().count();
            let comment = line.trim_start().starts_with("//");
            let limit = if comment { COMMENT_WIDTH } else { WIDTH };
            if width > limit && (comment || !line.contains('"')) {
                wrong.push(format!("{path}:{}: {width} columns, at most {limit}", number + 1));
            }
        }
        for (name, line, length) in functions(&source.text) {
            let listed = LONG_FUNCTIONS.iter().any(|(file, f, _)| *file == path && *f == name);
            if length > FUNCTION && !listed {
                wrong.push(format!(
                    "{path}:{line}: fn {name} has {length} lines, at most {FUNCTION}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Name, first line and length of every function. rustfmt puts the closing brace of a function in
/// the column of its `fn` line, and nothing else of its body there.
fn functions(text: &str) -> Vec<(String, usize, usize)> {
    let head =
        Regex::new(r"^(\s*)(?:pub(?:\([a-z]+\))? )?(?:const |async |unsafe )*fn ([a-z_0-9]+)")
            .unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let Some(head) = head.captures(line) else { continue };
        let end = format!("{}}}", &head[1]);
        let body = lines[i..].iter().position(|l| {
            *l == end
                || l.ends_with(';')
                    && l.starts_with(&head[1])
                    && !l[head[1].len()..].starts_with(' ')
                    && *l != *line
        });
        let length = if line.ends_with('}') { 1 } else { body.map_or(1, |end| end + 1) };
        found.push((head[2].to_owned(), i + 1, length));
    }
    found
}

#[test]
fn no_banned_words() {
    let banned: Vec<_> =
        BANNED.iter().map(|(word, why)| (Regex::new(word).unwrap(), why)).collect();
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|s| s.path != "tests/it/tidy.rs") {
        for (number, line) in source.text.lines().enumerate() {
            for (word, why) in banned.iter().filter(|(word, _)| word.is_match(line)) {
                wrong.push(format!("{}:{}: {word}: {why}", source.path, number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_module_says_what_it_does() {
    // The tests of a module say what they show by their names.
    let silent: Vec<_> = sources()
        .into_iter()
        .filter(|s| !(s.text.starts_with("//!") || s.path.starts_with("src/") && s.is_test()))
        .map(|s| s.path)
        .collect();
    assert!(silent.is_empty(), "no //! in {silent:#?}");
}

#[test]
fn exceptions_are_still_needed() {
    let by_path: BTreeMap<_, _> = sources().into_iter().map(|s| (s.path.clone(), s)).collect();
    for (file, reason) in LONG_FILES {
        assert!(!reason.is_empty() && by_path.contains_key(*file), "{file} is gone");
    }
    for (file, function, reason) in LONG_FUNCTIONS {
        let text = by_path.get(*file).map(|s| s.text.as_str()).unwrap_or_default();
        let long = functions(text).iter().any(|(name, _, n)| name == function && *n > FUNCTION);
        assert!(!reason.is_empty() && long, "{file}: fn {function} is short now");
    }
}
