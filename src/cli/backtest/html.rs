//! The page: one file, no script, nothing from elsewhere; light and dark; fit for print.

use std::fmt::Write as _;

use super::plot;
use super::report::{JudgeReport, Report, number, percent, share};
use crate::analysis::backtest::Summary;

const STYLE: &str = include_str!("page.css");

/// The whole page.
pub(super) fn page(report: &Report) -> String {
    let mut body = String::new();
    let mut add = |text: &str| body.push_str(text);
    add(&header(report));
    add(&cards(report));
    add(&section(
        "Good releases rolled back",
        "Windows in which nothing was released, some of the stable pods playing the canary: the \
         share that each judge would have rolled back, with its 95% interval. Less is better.",
        &plot::rollbacks(report),
    ));
    for at in 0..report.changes().count() {
        let name = report.changes().nth(at).unwrap_or_default();
        add(&section(
            &format!("{}: minutes to the rollback", escape(name)),
            "The same windows with this regression put into the canary: from the first request to \
             the rollback, in half (dot) and in nine tenths (end of the line) of the windows \
             in which it was found. Less is better.",
            &plot::detections(report, at),
        ));
    }
    if let Some(evidence) = &report.evidence {
        let about = format!(
            "ln E of Sluice over the minutes of a release: good releases (thin), and a typical one \
             with {} (thick). The line is where a release fails; a release without a change \
             crosses it with at most the promised chance, as far as pods of one version behave alike.",
            escape(&evidence.regression_name)
        );
        add(&section("The evidence", &about, &plot::evidence(evidence)));
    }
    add(&table(report));
    add(&method(report));
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>Backtest of {name}</title><style>{STYLE}</style></head>\n<body><main>\n{body}\n\
         </main></body></html>\n",
        name = escape(&report.name),
    )
}

/// Text that may hold anything.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn section(title: &str, about: &str, inside: &str) -> String {
    format!("<section><h2>{title}</h2><p class=\"about\">{about}</p>{inside}</section>\n")
}

fn header(report: &Report) -> String {
    let mut sentences = String::new();
    for sentence in &report.summary {
        let _ok = write!(sentences, "<p class=\"said\">{}</p>", escape(sentence));
    }
    let server = report.server.as_deref().map(|server| format!(", read from {}", escape(server)));
    format!(
        "<header><p class=\"eyebrow\">Sluice backtest</p><h1>{}</h1><p class=\"lead\">{}{}</p>\
         {sentences}</header>\n",
        escape(&report.name),
        escape(&report.about()),
        server.unwrap_or_default(),
    )
}

/// The numbers to remember: the rules of the files first, then ours.
fn cards(report: &Report) -> String {
    let theirs = report.judges.iter().filter(|judge| ["template", "flagger"].contains(&judge.who));
    let ours = report.judges.iter().rfind(|judge| judge.who.starts_with("sluice"));
    let mut out = String::from("<div class=\"cards\">");
    for judge in theirs.chain(ours) {
        let rollback = &judge.unchanged.rollback;
        let found = judge.regressions.iter().find_map(|one| Some((one, one.found.as_ref()?)));
        let found = found.map(|(change, found)| {
            let time = match found.median_minutes {
                Some(minutes) => format!("{} min", number(minutes)),
                None => "never".to_owned(),
            };
            format!(
                "<div class=\"second\"><b>{time}</b> to find {} ({} found)</div>",
                escape(&change.name),
                percent(found.rollback.share)
            )
        });
        let _ok = write!(
            out,
            "<div class=\"card {}\"><div class=\"who\">{}</div><div class=\"big\">{}</div>\
             <div class=\"small\">of good releases rolled back<br>95% interval {}% to {}%</div>{}</div>",
            judge.who,
            escape(&judge.name),
            percent(rollback.share),
            number(100.0 * rollback.low),
            number(100.0 * rollback.high),
            found.unwrap_or_default(),
        );
    }
    out.push_str("</div>\n");
    out
}

fn table(report: &Report) -> String {
    let mut head = String::from("<th>Judge</th><th>Good releases rolled back</th>");
    for change in report.changes() {
        let _ok = write!(head, "<th>{}</th>", escape(change));
    }
    let any_excess = report.judges.iter().flat_map(|judge| &judge.regressions);
    let excess =
        any_excess.filter_map(|r| r.found.as_ref()).any(|f| f.excess_bad_requests.is_some());
    let mut rows = String::new();
    for judge in &report.judges {
        rows.push_str(&row(judge, excess));
    }
    let more =
        if excess { ", and bad requests until then beyond those of a good release" } else { "" };
    section(
        "All numbers",
        &format!(
            "Shares of windows with Wilson's 95% interval. For a regression: the share that was found, \
             minutes in half and in nine tenths of those{more}."
        ),
        &format!(
            "<div class=\"scroll\"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>\
             </div>"
        ),
    )
}

/// The windows of good releases that were not rolled back, in words.
fn third(judge: &JudgeReport) -> String {
    let words = |one: &Summary| percent(one.rollback.share);
    match (&judge.passed, &judge.inconclusive) {
        (Some(passed), Some(open)) => {
            format!("; {} shown to be harmless, {} inconclusive", words(passed), words(open))
        }
        (None, Some(open)) if open.rollback.hits > 0 => {
            format!("; {} held for want of data", words(open))
        }
        _ => String::new(),
    }
}

fn row(judge: &JudgeReport, excess: bool) -> String {
    let rollback = &judge.unchanged.rollback;
    let mut cells = format!(
        "<th scope=\"row\">{}<small>{}</small></th><td>{}<small>{} of {} windows{}</small></td>",
        escape(&judge.name),
        escape(&judge.about),
        share(rollback),
        rollback.hits,
        rollback.of,
        third(judge),
    );
    for one in &judge.regressions {
        let Some(found) = &one.found else {
            cells.push_str("<td class=\"none\">not looked at</td>");
            continue;
        };
        let times = match (found.median_minutes, found.p90_minutes) {
            (Some(half), Some(most)) => format!("{} / {} min", number(half), number(most)),
            _ => "never".to_owned(),
        };
        let more = found.excess_bad_requests.filter(|_| excess);
        let more = more.map(|more| format!("<small>{} bad requests</small>", number(more)));
        let _ok = write!(
            cells,
            "<td>{}<small>{times}</small>{}</td>",
            share(&found.rollback),
            more.unwrap_or_default()
        );
    }
    format!("<tr>{cells}</tr>")
}

fn method(report: &Report) -> String {
    let mut items = String::new();
    let mut item = |text: &str| {
        let _ok = write!(items, "<li>{}</li>", escape(text));
    };
    item(&format!(
        "{} windows were used; left out before any evidence was seen: {}.",
        report.windows.used,
        if report.windows.left_out.is_empty() {
            "none".to_owned()
        } else {
            report.left_out_in_words()
        },
    ));
    for signal in &report.signals {
        item(&format!("{} ({})", signal.to_line(), signal.series.join(" / ")));
    }
    item(&format!(
        "Raw series every {} s. Errors are injected by turning good requests bad one by one, slower \
         requests by moving them to higher buckets; seed {}.",
        number(report.step_seconds),
        report.seed
    ));
    item(
        "All judges see the same pods. The canary's pods are not new here, so what a cold start does is \
         not in these numbers; a release is compared with all stable pods, also by Kayenta.",
    );
    for note in &report.notes {
        item(note);
    }
    section("How this was made", "", &format!("<ul class=\"method\">{items}</ul>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_bring_markup() {
        assert_eq!(escape("<b title=\"x\">&'"), "&lt;b title=&quot;x&quot;&gt;&amp;&#39;");
    }
}
