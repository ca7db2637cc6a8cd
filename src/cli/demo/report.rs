//! What is said at the end.

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Serialize;

/// The whole demo.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The releases in the order of play.
    pub releases: Vec<Played>,
}

/// One release.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Played {
    /// The app.
    pub name: String,
    /// The right decision, from what the new version was made to do.
    pub expected: String,
    /// The decision: `Promoted`, `RolledBack`, or `Undecided`.
    pub decision: String,
    /// Why, in numbers.
    pub reason: String,
    /// From the new image to the end of the release.
    pub seconds: f64,
    /// The requests to the app.
    pub requests: Requests,
}

/// How the requests to one app ended, as those who sent them saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Requests {
    /// All.
    pub total: u64,
    /// Answered by the new version, where that is a bad one.
    pub to_bad: u64,
    /// Answered with 5xx, or not at all.
    pub failed: u64,
    /// Failed though no version failed them: lost on the way. Must be 0.
    pub failed_elsewhere: u64,
}

impl Report {
    /// Every decision was right, and no request was lost on the way.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.releases.iter().all(|r| r.decision == r.expected && r.requests.failed_elsewhere == 0)
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.set_header(vec![
            "RELEASE",
            "DECISION",
            "AFTER",
            "REQUESTS",
            "TO A BAD VERSION",
            "FAILED",
            "LOST",
        ]);
        for r in &self.releases {
            let decision = match r.decision == r.expected {
                true => r.decision.clone(),
                false => format!("{} (WRONG: expected {})", r.decision, r.expected),
            };
            let Requests { total, to_bad, failed, failed_elsewhere } = r.requests;
            table.add_row(vec![
                r.name.clone(),
                decision,
                format!("{:.0}s", r.seconds),
                total.to_string(),
                to_bad.to_string(),
                failed.to_string(),
                failed_elsewhere.to_string(),
            ]);
        }
        let table = table.to_string();
        let mut lines: Vec<String> = table.lines().map(|l| l.trim_end().to_owned()).collect();
        lines.push(String::new());
        lines.extend(self.releases.iter().map(|r| format!("{:<8}{}", r.name, r.reason)));
        lines.push(String::new());
        let right = self.releases.iter().filter(|r| r.decision == r.expected).count();
        let lost: u64 = self.releases.iter().map(|r| r.requests.failed_elsewhere).sum();
        lines.push(format!(
            "{right} of {} decisions right, {lost} requests lost on the way; seed {}",
            self.releases.len(),
            self.seed
        ));
        lines.join("\n")
    }
}
