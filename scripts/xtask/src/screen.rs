//! What a user sees of a run while it lasts, and at its end.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kernel_abi::trace::Kind;

use crate::cli::RunOptions;
use crate::console::printable;
use crate::error::Error;
use crate::facts::{Facts, Line};
use crate::symbols::Symbols;
use crate::verify::{Judgement, Outcome};
use crate::{build, report};

/// Where a run is shown. A reader that went away does not end the run.
pub struct Screen {
    out: Option<Box<dyn Write>>,
    log: Option<std::fs::File>,
    symbols: Option<Symbols>,
    kernel: PathBuf,
}

impl Screen {
    /// Opens the log, if there is to be one.
    pub fn new(options: &RunOptions, kernel: &Path) -> Result<Screen, Error> {
        let out: Option<Box<dyn Write>> = match &options.json {
            _ if options.quiet => None,
            Some(path) if path == Path::new("-") => Some(Box::new(std::io::stderr())),
            _ => Some(Box::new(std::io::stdout())),
        };
        let create =
            |path: &PathBuf| std::fs::File::create(path).map_err(|error| Error::file("write", path, error));
        let log = options.log.as_ref().map(create).transpose()?;
        Ok(Screen { out, log, symbols: None, kernel: kernel.to_owned() })
    }

    /// Prints a line.
    pub fn say(&mut self, text: &str) {
        if let Some(out) = &mut self.out {
            let _ = writeln!(out, "{text}");
            let _ = out.flush();
        }
    }

    /// Shows a console line; records are turned into words.
    pub fn console(&mut self, line: &[u8], seen: &Line) {
        if let Some(log) = &mut self.log {
            let _ = log.write_all(line).and_then(|()| log.write_all(b"\n"));
        }
        match seen {
            Line::Text => self.say(&printable(line)),
            Line::Counted => {}
            Line::Event(record) => {
                let event = record.event;
                let kind = Kind::from_number(event.kind).map_or("?", Kind::name);
                self.say(&format!(
                    "[cpu{}] trace {}: tsc={} {kind} a={:#x} b={:#x}",
                    record.cpu, event.sequence, event.tsc, event.a, event.b
                ));
            }
            Line::Panic(cpu, message) => {
                let cpu = cpu.map_or("a CPU without a number".to_owned(), |cpu| format!("CPU {cpu}"));
                self.say(&format!("kernel panic on {cpu}: {message}"));
            }
            Line::Frame(number, ip) => {
                if *number == 0 {
                    self.say("backtrace, innermost first:");
                }
                let symbols = self.symbols.get_or_insert_with(|| Symbols::load(&self.kernel));
                symbols.describe(*number, *ip).iter().for_each(|line| self.say(line));
            }
        }
    }

    /// Shows what became of each CPU, what was found at boot, and the whole run's outcome.
    pub fn result(&mut self, judgement: &Judgement, facts: &Facts, verdict: Option<Duration>) {
        if self.out.is_none() {
            return;
        }
        let table = report::table(&facts.cpus);
        if !table.is_empty() {
            self.say(&format!("\n{}", table.trim_end()));
        }
        if let Some(boot) = facts.boots.first() {
            let size = build::kernel_sizes().ok().map(|(_, without)| without);
            self.say(report::boot_line(boot, size).trim_end());
        }
        let name = judgement.outcome.name();
        self.say(&match verdict {
            Some(time) => format!("{name}: {:.2} s from QEMU's start to the verdict", time.as_secs_f64()),
            None => format!("{name}: no verdict from the kernel"),
        });
    }

    /// What went wrong goes to standard error, quiet or not.
    pub fn trouble(&mut self, judgement: &Judgement, stderr: &str) {
        let failed = judgement.outcome != Outcome::Pass;
        if !stderr.is_empty() && judgement.outcome != Outcome::Host && (self.out.is_some() || failed) {
            eprintln!("QEMU says: {stderr}");
        }
        if self.out.is_some() || failed {
            judgement.warnings.iter().for_each(|text| eprintln!("warning: {}", printable_lines(text)));
        }
        judgement.errors.iter().for_each(|text| eprintln!("error: {}", printable_lines(text)));
    }
}

fn printable_lines(text: &str) -> String {
    text.lines().map(|line| printable(line.as_bytes())).collect::<Vec<_>>().join("\n")
}
