//! The subcommand `bench`: measures the kernel, and writes the figures as a table, as JSON and as a page.
//!
//! Every figure has a method. *exact*: instructions under `-icount`, the same on every host. *ratio*: times that were
//! measured alternately in one run of the command, so that the speed of the host has no effect on their quotient.
#![forbid(unsafe_code)]

pub mod baseline;
pub mod boot;
pub mod exact;
pub mod figure;
pub mod options;
mod page;
pub mod paths;
mod peer;
pub mod ratio;
mod trace;

use std::path::Path;
use std::process::ExitCode;

use machine::build;
use machine::cargo::Show;
use machine::error::Error;
use machine::tree::root;
use measure::path::{self, Trip};
use output::{eprintln, print, println};

use self::figure::Report;
use self::options::{BenchOptions, Detail, Part};

/// Measures, prints the table, and writes the files.
///
/// # Errors
/// If a boot fails, prints no figure, or a file cannot be written.
pub fn run(options: &BenchOptions) -> Result<ExitCode, Error> {
    if let Some(Detail::Trace(options)) = &options.detail {
        return trace::run(options);
    }
    if let Some(trip) = options.trip {
        return show(trip, options);
    }
    build::everything(Show::Slow)?;
    let progress = |what: &str| eprintln!("bench: {what} ...");
    let mut report = Report::new();
    let parts: Vec<_> = Part::EXACT.into_iter().filter(|part| options.selects(*part)).collect();
    report.sections.extend(exact::sections(&parts, &progress)?);
    if options.selects(Part::Host) {
        report.sections.extend(ratio::sections(options.quick, &progress)?);
    }
    if options.peer.is_some() {
        let section = peer::measure(&mut report.sections, options.quick, &progress)?;
        report.sections.push(section);
    }
    print!("{}", report.text());
    write(options.json.as_deref(), "target/bench.json", report.json(), "figures")?;
    write(options.html.as_deref(), "target/bench.html", page::html(&report), "page")?;
    if options.write_baseline {
        let reason = options.reason.as_deref().unwrap_or_default();
        let changed = baseline::write(&report, reason)?;
        println!("{}: {}", baseline::path().display(), output::count(changed as u64, "changed figure"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows the instructions of a round trip. With `RINGSIDE_WRITE_DOCS`, updates the documentation.
fn show(trip: Trip, options: &BenchOptions) -> Result<ExitCode, Error> {
    let path = path::find(trip)?;
    if std::env::var_os("RINGSIDE_WRITE_DOCS").is_some() {
        path::check_page(trip, &path, true)?;
    }
    if options.markdown {
        print!("{}", path.markdown());
        return Ok(ExitCode::SUCCESS);
    }
    print!("{}", path.table(options.fold));
    println!(
        "{}, as the program has measured; {} in QEMU's execution log",
        output::count(path.rows.len() as u64, "instruction"),
        output::count(path.times as u64, "identical round trip")
    );
    Ok(ExitCode::SUCCESS)
}

/// Writes to the file that the user names, or else to this file in the tree.
fn write(path: Option<&Path>, default: &str, text: String, what: &str) -> Result<(), Error> {
    let path = &path.map_or_else(|| root().join(default), Path::to_path_buf);
    output::write(path, text).map_err(|error| Error::file("write", path, error))?;
    eprintln!("{what}: {}", path.display());
    Ok(())
}
