//! ACA-Bench 1: automated canary analysis against the rules of other tools, with a seed.
//!
//! `RUNS=n` sets the runs of a row (4,000), `SEED=n` the seed, `TABLE=name` picks tables by a part of
//! their name, `ROW=name` rows of the rule as shipped. Every share is in per cent with Wilson's 95 %
//! interval; minutes are the median of the runs in which the rule acted, with its 95 % interval.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a bench stops when its own tables are wrong"
)]

mod draw;
mod exact;
mod figures;
mod measure;
mod ours;
mod peers;
mod shipped;
mod tables;
#[allow(dead_code, reason = "the test asks for what the table does not")]
mod targets;
mod world;

fn main() {
    let number = |name: &str, usual: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
    };
    let (runs, seed) = (number("RUNS", 4_000) as usize, number("SEED", 20_250_601));
    let wanted = std::env::var("TABLE").unwrap_or_default();
    println!("ACA-Bench 1, {runs} runs a row, seed {seed}");
    for (name, table) in tables::ALL {
        if name.contains(&wanted) {
            println!("\n## {name}\n");
            table(runs, seed);
        }
    }
    if "targets".contains(&wanted) {
        println!("\n## targets\n\n| target | wanted | measured | |\n| --- | --- | --- | --- |");
        for (name, work) in targets::ALL {
            let line = work(runs, seed);
            println!("| {name} | {} | {} | {} |", line.wanted, line.measured, line.answer);
        }
    }
}
