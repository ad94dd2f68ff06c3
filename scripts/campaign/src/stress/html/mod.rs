//! The report: one self-contained HTML file, without network or server, made from a campaign's result and the evidence
//! of some of its boots.
//!
//! ```text
//!   Campaign  --> campaign: verdict, grid of seeds, failures
//!   Evidence  --> boot: facts, tables            \
//!             --> charts: numbers as JSON --> page.js, uPlot: charts
//! ```
//!
//! All text goes through [`markup`], which escapes it: console lines, options and paths are untrusted input.

mod boot;
mod campaign;
mod charts;
mod markup;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use machine::error::Error;
use trace::palette;

use self::markup::{escaped, script_json};
use super::evidence::Evidence;
use super::result::Campaign;
use super::seeds::Seed;

/// Maximum number of boots with a section of their own, so that the page loads quickly.
pub const SHOWN_MAX: usize = 8;

/// The chart library. Its licence (MIT) is beside it, and is included in the page.
const UPLOT: &str = include_str!("uplot/uPlot.iife.min.js");
const UPLOT_STYLE: &str = include_str!("uplot/uPlot.min.css");
const UPLOT_LICENCE: &str = include_str!("uplot/LICENSE");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Neither the page nor any markup injected into it can load or send anything.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; \
                      base-uri 'none'; form-action 'none'";

/// Writes the report atomically.
///
/// # Errors
/// If the file cannot be written.
pub fn write(path: &Path, campaign: &Campaign, evidence: &BTreeMap<Seed, Evidence>) -> Result<(), Error> {
    let failed = |error| Error::file("write", path, error);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let part = path.with_added_extension(format!("{}.part", std::process::id()));
    std::fs::write(&part, page(campaign, evidence)).map_err(failed)?;
    std::fs::rename(&part, path).map_err(failed)
}

/// Formats the page.
fn page(campaign: &Campaign, evidence: &BTreeMap<Seed, Evidence>) -> String {
    let shown: Vec<_> =
        campaign.boots.iter().filter_map(|boot| Some((boot, evidence.get(&boot.seed)?))).collect();
    let title = format!("Ringside stress report: {}", campaign.outcome);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <title>{}</title>\n<style>\n{UPLOT_STYLE}\n{STYLE}{}</style>\n</head>\n<body>\n<main>\n",
        escaped(&title),
        palette::variables()
    );
    page += &campaign::section(campaign);
    for (n, (boot, evidence)) in shown.iter().enumerate() {
        page += &boot::section(n, boot, evidence);
    }
    let data: Vec<_> = shown.iter().map(|(_, evidence)| charts::boot(evidence)).collect();
    // Writing to a `String` cannot fail.
    let _ = write!(
        page,
        "<footer><p>Made by <code>cargo xtask stress</code>. Charts: uPlot.</p><details><summary>Licence of uPlot</summary>\
         <pre>{}</pre></details></footer>\n</main>\n<script type=\"application/json\" id=\"data\">{}</script>\n\
         <script>\n{UPLOT}\n</script>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        escaped(UPLOT_LICENCE),
        script_json(&data)
    );
    page
}
