//! Lines to a scenario.

use jiff::SignedDuration;

use super::actions::{self, Act, Expect};
use crate::sim::{hooks, kubelet, pods};

/// What happens when, and what must come of it.
#[derive(Debug, Default)]
pub struct Scenario {
    /// The host that is asked and the requests a second.
    pub load: Option<(String, f64)>,
    /// What is not there at the start: kind and name. `apply` brings it.
    pub late: Vec<(String, String)>,
    /// How long containers take to get ready.
    pub ready_after: SignedDuration,
    /// How containers start, by image.
    pub ready: Vec<(String, kubelet::Behaviour)>,
    /// How containers answer, by image.
    pub answers: Vec<(String, pods::Behaviour)>,
    /// How hooks answer, by name.
    pub hooks: Vec<(String, Vec<hooks::Word>)>,
    /// What happens, in order of time.
    pub lines: Vec<Line>,
    /// When it is over.
    pub until: Option<SignedDuration>,
    /// What must be true at the end: line number, words, expectation.
    pub expects: Vec<(usize, String, Expect)>,
}

/// One thing that happens.
#[derive(Debug)]
pub struct Line {
    /// The line's number.
    pub number: usize,
    /// Its words.
    pub text: String,
    /// When, from the start.
    pub at: SignedDuration,
    /// What.
    pub act: Act,
}

/// A line that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {number}: {text:?}: {remedy}")]
pub struct ScenarioError {
    /// The line's number.
    pub number: usize,
    /// Its words.
    pub text: String,
    /// What to write instead.
    pub remedy: String,
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// The first line that is not understood.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let mut out = Self::default();
        for (index, raw) in text.lines().enumerate() {
            let line = raw.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            out.take(index + 1, line).map_err(|remedy| ScenarioError {
                number: index + 1,
                text: line.to_owned(),
                remedy,
            })?;
        }
        out.lines.sort_by_key(|line| line.at);
        Ok(out)
    }

    /// True for a manifest that is there from the start.
    #[must_use]
    pub fn is_early(&self, manifest: &serde_json::Value) -> bool {
        !self.late.iter().any(|(kind, name)| actions::is(manifest, kind, name))
    }

    fn take(&mut self, number: usize, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["load", host, rate] => {
                let rate =
                    rate.parse().map_err(|_| "write load HOST REQUESTS-A-SECOND".to_owned())?;
                self.load = Some(((*host).to_owned(), rate));
            }
            ["late", kind, name] => {
                actions::resource(kind)?;
                self.late.push(((*kind).to_owned(), (*name).to_owned()));
            }
            ["ready", "after", after] => self.ready_after = span(after)?,
            ["ready", image, how @ ..] => {
                self.ready.push(((*image).to_owned(), readiness(how)?));
            }
            ["answers", image, how @ ..] => {
                self.answers.push(((*image).to_owned(), answer(image, how)?));
            }
            ["hook", name, how @ ..] => {
                self.hooks.push(((*name).to_owned(), actions::hook_words(how)?));
            }
            ["until", at] => self.until = Some(span(at)?),
            ["expect", rest @ ..] => {
                self.expects.push((number, line.to_owned(), Expect::parse(rest)?));
            }
            ["at", at, rest @ ..] => {
                let act = Act::parse(rest, line)?;
                self.lines.push(Line { number, text: line.to_owned(), at: span(at)?, act });
            }
            _ => {
                return Err("a line begins with load, late, ready, answers, hook, at, until or \
                     expect"
                    .into());
            }
        }
        Ok(())
    }
}

fn span(text: &str) -> Result<SignedDuration, String> {
    let parsed = humantime::parse_duration(text).ok();
    parsed
        .and_then(|d| SignedDuration::try_from(d).ok())
        .ok_or_else(|| format!("{text:?} is no time: write 30s, 5m or 1h30m"))
}

fn readiness(how: &[&str]) -> Result<kubelet::Behaviour, String> {
    use kubelet::Behaviour;
    match how {
        ["never"] => Ok(Behaviour::NeverReady),
        ["crash"] => Ok(Behaviour::Crash { after: SignedDuration::from_secs(1) }),
        ["pull-error"] => Ok(Behaviour::PullError),
        ["after", after] => Ok(Behaviour::Ready { after: span(after)? }),
        _ => Err("write ready IMAGE never | crash | pull-error | after 3s".into()),
    }
}

fn answer(image: &str, how: &[&str]) -> Result<pods::Behaviour, String> {
    let mut behaviour = pods::Behaviours::default().of(image);
    let mut rest = how;
    while let [key, value, more @ ..] = rest {
        match *key {
            "errors" => {
                let percent: f64 = value
                    .trim_end_matches('%')
                    .parse()
                    .map_err(|_| format!("{value:?} is no percentage"))?;
                behaviour.error_rate = percent / 100.0;
            }
            "latency" => behaviour.latency.median_seconds = span(value)?.as_secs_f64(),
            _ => return Err("write answers IMAGE errors 25% latency 400ms".into()),
        }
        rest = more;
    }
    Ok(behaviour)
}
