//! Formats the page's header: the verdict and, for a campaign, the grid of seeds and the failures.

use std::fmt::Write;

use machine::verify::Outcome;

use super::markup::{Column, escaped, table};
use crate::stress::result::{Boot, Campaign};
use crate::stress::table::totals;

/// Formats the header.
pub fn section(campaign: &Campaign) -> String {
    let passed = campaign.outcome() == Outcome::Pass && campaign.not_booted.is_empty();
    let (class, sign) = if passed { ("pass", '\u{2713}') } else { ("bad", '\u{2717}') };
    let mut html = format!(
        "<header>\n<h1>Ringside stress report</h1>\n<p class=\"verdict {class}\" id=\"verdict\"><span aria-hidden=\"true\">\
         {sign}</span> {}</p>\n<noscript><p>The charts need JavaScript; the tables contain the same numbers.</p></noscript>\n\
         </header>\n",
        escaped(totals(campaign).trim_end())
    );
    if campaign.boots.len() + campaign.not_booted.len() > 1 {
        html += &grid(campaign);
    }
    let failed: Vec<_> = campaign.boots.iter().filter(|boot| !boot.passed()).collect();
    if !failed.is_empty() {
        html += &format!("<section>\n<h2>Failures</h2>\n{}</section>\n", failures(&failed));
    }
    html
}

/// Formats a cell for each seed. The outcome is shown by colour and by a symbol.
fn grid(campaign: &Campaign) -> String {
    let mut html = "<section id=\"campaign\">\n<h2>Seeds</h2>\n<ol class=\"grid\">\n".to_owned();
    for boot in &campaign.boots {
        let name = boot.outcome.name();
        let first = boot.problems.first().map_or(String::new(), |problem| format!(": {}", problem.what));
        // Writing to a `String` cannot fail, here and below.
        let _ = writeln!(
            html,
            "<li class=\"{name}\" title=\"{}\"><span aria-hidden=\"true\">{}</span> {} <span class=\"hidden\">{name}</span></li>",
            escaped(&format!("{} {name}, {}{first}", boot.seed, output::count(boot.syscalls(), "call"))),
            sign(boot.outcome),
            boot.seed
        );
    }
    for seed in &campaign.not_booted {
        let _ = writeln!(
            html,
            "<li class=\"none\" title=\"{seed} was not booted\"><span aria-hidden=\"true\">\u{2013}</span> {seed} \
             <span class=\"hidden\">not booted</span></li>"
        );
    }
    html += "</ol>\n<p class=\"legend\">";
    for outcome in [Outcome::Pass, Outcome::Failed, Outcome::Panic, Outcome::Timeout, Outcome::Host] {
        let count = campaign.boots.iter().filter(|boot| boot.outcome == outcome).count();
        if count > 0 {
            let _ = write!(html, "<span>{} {}: {count}</span> ", sign(outcome), outcome.name());
        }
    }
    if !campaign.not_booted.is_empty() {
        let _ = write!(html, "<span>\u{2013} not booted: {}</span>", campaign.not_booted.len());
    }
    html + "</p>\n</section>\n"
}

/// Formats the table of failed boots.
fn failures(failed: &[&Boot]) -> String {
    use Column::{Code, Text};
    let columns = [Text("Seed"), Text("Outcome"), Text("First problem"), Code("Replay command"), Code("Log")];
    let row = |boot: &&Boot| {
        vec![
            boot.seed.to_string(),
            boot.outcome.name().to_owned(),
            boot.problems.first().map_or(String::new(), |problem| problem.what.clone()),
            boot.replay.clone(),
            boot.log.as_ref().map_or(String::new(), |log| log.display().to_string()),
        ]
    };
    table("Failed boots and their replay commands", &columns, failed.iter().map(row))
}

/// Returns the symbol of an outcome.
fn sign(outcome: Outcome) -> char {
    match outcome {
        Outcome::Pass => '\u{2713}',
        Outcome::Failed => '\u{2717}',
        Outcome::Panic => '!',
        Outcome::Timeout => '\u{2026}',
        Outcome::Host | Outcome::Usage => '?',
    }
}
