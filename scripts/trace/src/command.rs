//! The subcommand `trace`: converts a trace file to the requested outputs in one pass over the file.

use std::cell::RefCell;
use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use output::{Stream, Target, eprintln};

use super::capture::{self, Chipset, Drain, GuestRam, Progress};
use super::console;
use super::ctf::Ctf;
use super::error::Error;
use super::input;
use super::merge::{Filter, Merge};
use super::options::{TraceOptions, Window};
use super::perfetto::Perfetto;
use super::places::{Find, Origin, Places};
use super::reader::Reader;
use super::sink::Sink;
use super::stats::Stats;
use super::svg::Svg;
use super::text::Text;

/// Number of CPUs in a synthetic trace.
const SYNTHETIC_CPUS: u32 = 4;

/// Runs the subcommand. If a trace is truncated, its complete part is converted, and an error is reported.
/// `find_symbols` returns the function that names the code at an address.
pub fn run(options: &TraceOptions, find_symbols: fn(&Origin<'_>) -> Option<Find>) -> Result<ExitCode, Error> {
    if let Some(records) = options.synthesize {
        super::synthetic::write(&options.input, records, SYNTHETIC_CPUS)?;
        return Ok(ExitCode::SUCCESS);
    }
    let (input, flaw) =
        if options.ram { (from_ram(options)?, None) } else { console::trace_file(&options.input)? };
    let text = options.text.as_ref().and_then(Option::as_ref);
    let written = [text, options.pftrace.as_ref(), options.stats_json.as_ref(), options.svg.as_ref()];
    if let Some(path) = written.into_iter().flatten().find(|path| input::is_same(path, &input)) {
        return Err(Error::Usage(format!(
            "the output file {} is the input file: name another file",
            path.display()
        )));
    }
    let reader = Reader::open(&input)?;
    if input != options.input && options.is_plain() {
        eprintln!("{} in {}", output::count(reader.found(), "record"), input.display());
    }
    let filter = filter(options, &reader)?;
    let outputs = Outputs::of(options)?;
    let command = &reader.header().command;
    let origin = Origin { trace: &input, command, symbols: &options.symbols };
    let places = if outputs.show_code() { find_symbols(&origin) } else { None };
    let report = convert(&reader, &filter, &outputs, Places::new(places))?;
    if let Some(text) = &report {
        Stream::Out.print(format_args!("{text}"));
    }
    if let Some(losses) = reader.header().losses() {
        eprintln!("{losses}");
    }
    reader.complete()?;
    if let Some((cpu, why)) = reader.header().damage() {
        return Err(Error::Ring(cpu, why.to_owned()));
    }
    flaw.map_or(Ok(()), Err)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the records in the rings of guest memory to a trace file in the same directory.
fn from_ram(options: &TraceOptions) -> Result<PathBuf, Error> {
    let path = options.input.with_extension("rtrace");
    let chipset = Chipset::of(&options.machine);
    let open = OpenOptions::new().read(true).write(options.follow).open(&options.input);
    let file = open.map_err(Error::io("open", &options.input))?;
    input::check(&file).map_err(Error::io("read", &options.input))?;
    let summary = if options.follow {
        let drain = Drain::start(file, chipset, path, Vec::new())?;
        wait_for_end_of_input(&drain)?;
        drain.stop()?
    } else {
        let ram = GuestRam::new(file, chipset).map_err(Error::io("read", &options.input))?;
        capture::flight(&ram, &path, &[])?
    };
    Ok(summary.path)
}

/// Waits until standard input ends, and prints every CPU's progress each second.
fn wait_for_end_of_input(drain: &Drain) -> Result<(), Error> {
    let (sender, receiver) = mpsc::channel::<()>();
    let reader = std::thread::Builder::new().spawn(move || {
        // An error also ends the wait, because no other signal will arrive.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        drop(sender);
    });
    reader.map_err(|error| Error::Io("cannot start a thread".to_owned(), error))?;
    while receiver.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
        for (cpu, Progress { records, syscalls, ticks, last }) in drain.progress().into_iter().enumerate() {
            let last = last.map_or("nothing", |(kind, _)| kind.name());
            let counts = [(records, "record"), (syscalls, "system call"), (ticks, "tick")];
            let counts = counts.map(|(number, noun)| output::count(number, noun)).join(", ");
            eprintln!("cpu{cpu}: {counts}, last {last}");
        }
    }
    Ok(())
}

/// Builds the filter for the selected events.
fn filter(options: &TraceOptions, reader: &Reader) -> Result<Filter, Error> {
    let mut filter = Filter::all(reader);
    filter.kinds = options.kinds();
    let cpus = &reader.header().cpus;
    if let Some(cpu) = options.cpu.iter().find(|selected| !cpus.iter().any(|cpu| cpu.cpu == **selected)) {
        let text = format!("the trace has no CPU {cpu}, only {}", cpus.len());
        return Err(Error::Usage(text));
    }
    if !options.cpu.is_empty() {
        filter.lanes.retain(|lane| options.cpu.contains(&cpus[*lane].cpu));
    }
    Ok(filter)
}

/// The paths of the outputs. `-` is standard output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Outputs {
    pftrace: Option<PathBuf>,
    ctf: Option<PathBuf>,
    text: Option<PathBuf>,
    per_cpu: bool,
    stats: bool,
    stats_text: Option<PathBuf>,
    stats_json: Option<PathBuf>,
    svg: Option<PathBuf>,
    window: Option<Window>,
}

impl Outputs {
    /// Returns the requested outputs and creates their directory.
    fn of(options: &TraceOptions) -> Result<Outputs, Error> {
        let plain = options.is_plain();
        let folder = options.out_dir.clone().or_else(|| plain.then(|| options.input.with_extension("out")));
        let inside = |name: &str| folder.as_ref().map(|folder| folder.join(name));
        if let Some(folder) = &folder {
            fs::create_dir_all(folder).map_err(Error::io("create the directory", folder))?;
        }
        let text = options
            .text
            .clone()
            .map(|text| text.or_else(|| inside("out.txt")).unwrap_or_else(|| PathBuf::from("-")));
        Ok(Outputs {
            pftrace: options.pftrace.clone().or_else(|| inside("out.pftrace")),
            ctf: options.ctf.clone().or_else(|| inside("ctf")),
            text,
            per_cpu: options.per_cpu,
            stats: options.stats || plain,
            stats_text: inside("stats.txt"),
            stats_json: options.stats_json.clone().or_else(|| inside("stats.json")),
            svg: options.svg.clone(),
            window: options.window,
        })
    }

    /// Returns whether the only output is text on standard output.
    fn is_only_printed(&self) -> bool {
        let text = Some(PathBuf::from("-"));
        let only = Outputs { text, per_cpu: self.per_cpu, window: self.window, ..Outputs::default() };
        *self == only
    }

    /// Returns whether an output has addresses of code.
    fn show_code(&self) -> bool {
        self.pftrace.is_some() || self.ctf.is_some() || self.text.is_some()
    }

    fn wants_stats(&self) -> bool {
        self.stats || self.stats_text.is_some() || self.stats_json.is_some()
    }
}

/// Writes all outputs, in one pass over the file unless the text is ordered by CPU. Returns the tables to print.
fn convert(
    reader: &Reader,
    filter: &Filter,
    outputs: &Outputs,
    places: Places,
) -> Result<Option<String>, Error> {
    let places = Rc::new(places);
    let header = reader.header();
    let mut files = Files::default();
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    if let Some(path) = &outputs.pftrace {
        sinks.push(Box::new(Perfetto::new(
            files.create(path)?,
            path.display().to_string(),
            header,
            places.clone(),
        )?));
    }
    if let Some(folder) = &outputs.ctf {
        sinks.push(Box::new(Ctf::new(folder, header, places.clone())?));
    }
    let mut text = match &outputs.text {
        Some(path) => Some(Text::new(files.create(path)?, path.display().to_string(), header, places)),
        None => None,
    };
    if let Some(path) = &outputs.svg {
        sinks.push(Box::new(Svg::new(
            files.create(path)?,
            path.display().to_string(),
            header,
            outputs.window,
        )));
    }
    // With `--text | head`, the rest of the trace is not read.
    let only_printed = outputs.is_only_printed();
    let is_wanted = || !only_printed || Stream::Out.is_open();
    let mut stats = if outputs.wants_stats() { Some(Stats::new(header, filter.kinds)?) } else { None };
    if outputs.per_cpu {
        if let Some(text) = &mut text {
            for lane in &filter.lanes {
                let filter = Filter { lanes: vec![*lane], kinds: filter.kinds };
                pass_while(is_wanted, &mut Merge::new(reader, filter)?, &mut [text])?;
            }
        }
    } else if let Some(text) = text {
        sinks.push(Box::new(text));
    }
    let mut all: Vec<&mut dyn Sink> = sinks.iter_mut().map(|sink| &mut **sink as &mut dyn Sink).collect();
    all.extend(stats.iter_mut().map(|stats| stats as &mut dyn Sink));
    let mut merge = Merge::new(reader, filter.clone())?;
    pass_while(is_wanted, &mut merge, &mut all)?;
    if merge.backward() != 0 {
        let have = if merge.backward() == 1 { "has" } else { "have" };
        eprintln!(
            "{} {have} an earlier time than the preceding record of the same CPU",
            output::count(merge.backward(), "record")
        );
    }
    files.finish()?;
    match stats {
        Some(stats) => write_stats(&stats, outputs),
        None => Ok(None),
    }
}

/// Passes every event to every sink.
pub(super) fn pass(merge: &mut Merge, sinks: &mut [&mut dyn Sink]) -> Result<(), Error> {
    pass_while(|| true, merge, sinks)
}

/// Passes events to every sink as long as at least one sink accepts them.
fn pass_while(
    is_wanted: impl Fn() -> bool,
    merge: &mut Merge,
    sinks: &mut [&mut dyn Sink],
) -> Result<(), Error> {
    while is_wanted()
        && let Some(event) = merge.next()?
    {
        for sink in sinks.iter_mut() {
            sink.event(&event)?;
        }
    }
    sinks.iter_mut().try_for_each(|sink| sink.finish())
}

fn write_stats(stats: &Stats, outputs: &Outputs) -> Result<Option<String>, Error> {
    let report = stats.report()?;
    let tables = report.tables();
    if let Some(path) = &outputs.stats_text {
        output::write(path, &tables).map_err(Error::io("write", path))?;
    }
    if let Some(path) = &outputs.stats_json {
        // Serialising a struct of numbers and strings cannot fail.
        let text = serde_json::to_string_pretty(&report).unwrap_or_default() + "\n";
        output::write(path, text).map_err(Error::io("write", path))?;
    }
    Ok(outputs.stats.then_some(tables))
}

/// The files that a conversion writes. They replace earlier ones when all of them are complete.
#[derive(Default)]
struct Files(Vec<(PathBuf, Rc<RefCell<Target>>)>);

/// The writer through which a sink writes to one of the files.
struct Shared(Rc<RefCell<Target>>);

impl Files {
    /// Opens a file for writing; `-` is standard output.
    fn create(&mut self, path: &Path) -> Result<BufWriter<Shared>, Error> {
        const BUFFER: usize = 1 << 20;
        let target = Target::create(path).map_err(Error::io("write", path))?;
        let target = Rc::new(RefCell::new(target));
        self.0.push((path.to_owned(), Rc::clone(&target)));
        Ok(BufWriter::with_capacity(BUFFER, Shared(target)))
    }

    /// Completes all files, which the sinks have flushed.
    fn finish(self) -> Result<(), Error> {
        self.0
            .iter()
            .try_for_each(|(path, target)| target.borrow_mut().finish().map_err(Error::io("write", path)))
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.borrow_mut().flush()
    }
}
