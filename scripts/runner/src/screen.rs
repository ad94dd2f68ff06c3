//! Shows a run to the user: the console during the run, and the results at the end.

use std::path::{Path, PathBuf};
use std::time::Duration;

use machine::code::Code;
use machine::console::without_escapes;
use machine::error::Error;
use machine::facts::{Facts, Line};
use machine::verify::{Judgement, Outcome};
use machine::{build, cpu_state, report};
use output::{Log, Stream, eprintln, printable, printable_lines};

use crate::options::RunOptions;
use crate::qemu_text::collapsed;

/// The outputs of a run. The run continues without an output that cannot be written.
pub struct Screen {
    out: Option<Stream>,
    log: Option<(PathBuf, Log)>,
    formatter: ConsoleFormatter,
}

/// Formats console lines for the user, and names the functions at the addresses in them.
pub struct ConsoleFormatter {
    /// The code that the run executes.
    pub code: Code,
}

impl ConsoleFormatter {
    /// Creates a formatter for the run with this code.
    pub fn new(code: Code) -> ConsoleFormatter {
        ConsoleFormatter { code }
    }

    /// Returns the lines to show for a console line. A record that the table shows, or a line of a trace, produces
    /// none.
    pub fn format(&self, line: &[u8], seen: &Line) -> Vec<String> {
        match seen {
            Line::Early => {
                let text = printable(&without_escapes(line));
                Some(text).filter(|text| !text.trim().is_empty()).into_iter().collect()
            }
            Line::Text => vec![self.text(line)],
            Line::Counted => Vec::new(),
            Line::Panic(cpu, message) => {
                let cpu = cpu.map_or("a CPU whose index is unknown".to_owned(), |cpu| format!("CPU {cpu}"));
                vec![format!("kernel panic on {cpu}: {message}")]
            }
            Line::Frame(number, ip) => {
                let heading = (*number == 0).then(|| "backtrace, innermost first:".to_owned());
                heading.into_iter().chain(self.code.kernel().describe(*number, *ip)).collect()
            }
        }
    }

    /// Formats a line of text. In a message of the kernel, RIP gets its function.
    fn text(&self, line: &[u8]) -> String {
        let text = printable(line);
        match text.split_once("] ringside: ") {
            Some((cpu, _)) if cpu.starts_with("[cpu") => self.code.named(&text),
            _ => text,
        }
    }
}

impl Screen {
    /// Opens the log file, if one is requested.
    pub fn new(options: &RunOptions, code: Code) -> Result<Screen, Error> {
        let out = match &options.json {
            _ if options.quiet => None,
            Some(path) if path == Path::new("-") => Some(Stream::Err),
            _ => Some(Stream::Out),
        };
        let create = |path: &PathBuf| match Log::create(path) {
            Ok(log) => Ok((path.clone(), log)),
            Err(error) => Err(Error::file("write", path, error)),
        };
        let log = options.log.as_ref().map(create).transpose()?;
        Ok(Screen { out, log, formatter: ConsoleFormatter::new(code) })
    }

    /// Returns the code that the run executes.
    pub fn code(&self) -> &Code {
        &self.formatter.code
    }

    /// Prints a line.
    pub fn print(&mut self, text: &str) {
        if let Some(stream) = self.out {
            stream.line(format_args!("{text}"));
        }
    }

    /// Shows a console line, with records formatted as text, and writes the original line to the log.
    pub fn print_console(&mut self, line: &[u8], seen: &Line) {
        if let Some((_, log)) = &mut self.log {
            log.line(line);
        }
        self.formatter.format(line, seen).iter().for_each(|text| self.print(text));
    }

    /// Closes the log, at the end of the console.
    ///
    /// # Errors
    /// If a line could not be written.
    pub fn finish_log(&mut self) -> Result<(), Error> {
        let Some((path, log)) = self.log.take() else { return Ok(()) };
        log.close().map_err(|error| Error::file("write", &path, error))
    }

    /// Shows the results of each CPU, the boot record, and the outcome of the run.
    pub fn print_results(&mut self, judgement: &Judgement, facts: &Facts, verdict: Option<Duration>) {
        if self.out.is_none() {
            return;
        }
        if !facts.states.is_empty() {
            self.print(&format!("\n{}", cpu_state::blocks(&facts.states).trim_end()));
        }
        let table = report::table(&facts.cpus);
        if !table.is_empty() {
            self.print(&format!("\n{}", table.trim_end()));
        }
        if let Some(starts) = report::starts_line(&facts.cpus) {
            self.print(&starts);
        }
        if let Some(cycles) = report::cycles_line(facts) {
            self.print(&cycles);
        }
        if let Some(boot) = facts.boots.first() {
            let size = build::kernel_sizes().ok().map(|(_, without)| without);
            self.print(report::boot_line(boot, size).trim_end());
        }
        let name = judgement.outcome.name();
        self.print(&match verdict {
            Some(time) => format!("{name}: {:.2} s from QEMU's start to the verdict", time.as_secs_f64()),
            None => format!("{name}: no verdict from the kernel"),
        });
    }

    /// Prints warnings and errors to standard error, even with `--quiet`.
    pub fn print_problems(&mut self, judgement: &Judgement, stderr: &str) {
        let failed = judgement.outcome != Outcome::Pass;
        if !stderr.is_empty() && judgement.outcome != Outcome::Host && (self.out.is_some() || failed) {
            eprintln!("QEMU printed: {}", printable_lines(&collapsed(stderr)));
        }
        judgement.warnings.iter().for_each(|text| eprintln!("warning: {}", printable_lines(text)));
        judgement.errors.iter().for_each(|text| eprintln!("error: {}", printable_lines(text)));
    }
}
