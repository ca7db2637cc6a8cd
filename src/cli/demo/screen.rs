//! What is seen meanwhile: redrawn in place on a terminal, a line per change elsewhere.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write as _};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use owo_colors::OwoColorize;

use super::cast::{NEW, OLD, Style};
use super::play::{Scene, Stage};
use crate::api::rollout::Step;
use crate::api::status::{ReleaseStatus, RolloutStatus, Stage as ReleaseStage};

/// Where the play is shown.
pub enum Screen {
    /// Nowhere.
    Quiet,
    /// One line for each change of an app.
    Lines {
        /// What was said last, by app.
        said: BTreeMap<&'static str, String>,
    },
    /// Redrawn in place.
    Terminal {
        /// The first line.
        title: String,
        /// Lines drawn last.
        drawn: usize,
    },
}

impl Screen {
    /// The screen for a person: a terminal if there is one.
    #[must_use]
    pub fn for_people(title: String) -> Self {
        match std::io::stdout().is_terminal() {
            true => Self::Terminal { title, drawn: 0 },
            false => Self::Lines { said: BTreeMap::new() },
        }
    }

    /// Shows the stage as it is.
    pub fn show(&mut self, stage: &Stage<'_>, at: Timestamp) {
        let seconds = at.duration_since(stage.since).as_secs();
        match self {
            Self::Quiet => {}
            Self::Lines { said } => {
                for scene in &stage.scenes {
                    let Some(line) = line(scene) else { continue };
                    if said.insert(scene.act.app, line.clone()).as_ref() != Some(&line) {
                        super::super::say(&format!(
                            "{} {:<7}{line}",
                            clock(seconds),
                            scene.act.app
                        ));
                    }
                }
            }
            Self::Terminal { title, drawn } => {
                let mut lines = vec![format!("{}  {title}", clock(seconds)), String::new()];
                for scene in &stage.scenes {
                    lines.extend(picture(scene));
                }
                draw(&lines, drawn);
            }
        }
    }
}

fn clock(seconds: i64) -> String {
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// Replaces the lines drawn before by these, cut to the terminal's size so that none wraps.
fn draw(lines: &[String], drawn: &mut usize) {
    let (width, height) = ratatui::crossterm::terminal::size().unwrap_or((100, 40));
    let (width, height) = (usize::from(width.max(20)), usize::from(height.max(5)));
    let mut text = String::new();
    if *drawn > 0 {
        text.push_str(&format!("\x1b[{drawn}F"));
    }
    text.push_str("\x1b[J");
    let shown = lines.len().min(height - 1);
    for line in lines.iter().take(shown) {
        text.push_str(&cut(line, width));
        text.push('\n');
    }
    *drawn = shown;
    let mut out = std::io::stdout().lock();
    let _gone = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// The first `width` visible characters; colours do not count.
fn cut(line: &str, width: usize) -> String {
    let (mut kept, mut visible, mut in_colour) = (String::new(), 0, false);
    for c in line.chars() {
        if c == '\x1b' {
            in_colour = true;
        }
        if !in_colour {
            visible += 1;
            if visible > width {
                continue;
            }
        }
        kept.push(c);
        if in_colour && c == 'm' {
            in_colour = false;
        }
    }
    kept
}

fn status(scene: &Scene) -> RolloutStatus {
    scene.rollout.as_ref().and_then(|r| r.status.clone()).unwrap_or_default()
}

/// An app in one line; nothing before its release.
fn line(scene: &Scene) -> Option<String> {
    scene.started?;
    if let Some((decision, reason, seconds)) = &scene.decided {
        return Some(format!("{decision} after {seconds:.0}s: {reason}"));
    }
    let s = status(scene);
    let Some(release) = &s.release else { return Some(format!("{OLD} -> {NEW}: set")) };
    let weight = s.traffic.and_then(|t| t.observed).map_or(String::new(), |w| format!(", {w}"));
    let cause = release.cause.as_ref().map_or(String::new(), |c| format!(": {c}"));
    Some(match release.stage {
        ReleaseStage::Stepping => format!("step {}: {:?}{weight}", release.step + 1, release.state),
        stage => format!("{stage:?}{weight}{cause}"),
    })
}

/// An app in full while it is on stage, in one line before and after.
fn picture(scene: &Scene) -> Vec<String> {
    let name = format!("{:<8}", scene.act.app);
    let name = name.bold();
    if let Some((decision, reason, seconds)) = &scene.decided {
        let mark = match decision.as_str() {
            "Promoted" => "✔ promoted".green().to_string(),
            "RolledBack" => "✘ rolled back".red().to_string(),
            other => other.yellow().to_string(),
        };
        return vec![
            format!("{name}{mark} after {seconds:.0}s"),
            format!("        {}", reason.dimmed()),
        ];
    }
    if scene.started.is_none() {
        let title = match scene.act.style {
            Style::Weights => "a share of the requests at each step",
            Style::AbTest => "first who has the header or the cookie, then a share",
            Style::Batches => "batches of pods, no traffic routing",
        };
        return vec![format!("{name}{}", title.dimmed())];
    }
    let s = status(scene);
    let mut lines = vec![format!(
        "{name}{OLD} -> {NEW}   {:>4.0} req/s   {:>4.1} % fail",
        scene.rate, scene.failing
    )];
    let Some(release) = &s.release else { return lines };
    let steps = scene.rollout.as_ref().and_then(|r| r.spec.strategy.canary.clone());
    for (step, i) in steps.unwrap_or_default().steps.iter().zip(0..) {
        lines.push(branch(step, i, release));
    }
    lines.push(format!("    pods     {}", pods(scene)));
    let weight = s.traffic.as_ref().and_then(|t| t.observed.as_deref()).unwrap_or("by pods");
    lines.push(format!("    traffic  {weight} to {NEW}"));
    if let Some(verdict) = &s.verdict {
        let message = s.verdicts.last().and_then(|v| v.message.clone()).unwrap_or_default();
        lines.push(format!("    verdict  {} {}", verdict.to_uppercase(), message.dimmed()));
    }
    if let Some(cause) = &release.cause {
        lines.push(format!("    back     {}", cause.red()));
    }
    if let Some(waiting) = &s.waiting_for {
        lines.push(format!("    waits    {waiting}"));
    }
    lines
}

/// One step of the tree.
fn branch(step: &Step, index: i32, release: &ReleaseStatus) -> String {
    let pods = step.replicas.as_ref().map_or_else(String::new, |r| match r {
        IntOrString::Int(n) => n.to_string(),
        IntOrString::String(s) => s.clone(),
    });
    let traffic = match (&step.traffic, step.matches.is_empty()) {
        (Some(traffic), _) => format!("{traffic} of requests"),
        (None, false) => "header or cookie".to_owned(),
        (None, true) => String::new(),
    };
    let name = step.name.as_deref().unwrap_or_default();
    let text = format!("{} {name:<8} {pods:>4} pods  {traffic}", index + 1);
    let is_stepping = release.stage == ReleaseStage::Stepping;
    match index.cmp(&release.step) {
        Ordering::Less => format!("  ✔ {text}").green().to_string(),
        Ordering::Equal if is_stepping => format!("  ▶ {text}   {:?}", release.state),
        Ordering::Equal => format!("  ▶ {text}   {:?}", release.stage),
        Ordering::Greater => format!("    {text}").dimmed().to_string(),
    }
}

/// `v1 ●●●○  v2 ●`: a filled one is ready.
fn pods(scene: &Scene) -> String {
    let each = |tag: &str| {
        let (ready, all) = scene.pods.get(tag).copied().unwrap_or_default();
        format!("{tag} {}{}", "●".repeat(ready), "○".repeat(all.saturating_sub(ready)))
    };
    format!("{}   {}", each(OLD), each(NEW).cyan())
}
