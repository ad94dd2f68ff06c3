//! Exact figures of paths that a loop of system calls cannot measure, from the program `lengths`, and the floor: the
//! shortest possible system call.

use kernel_abi::trace::{Kind, Record};
use machine::error::Error;
use machine::verify::Outcome;
use trace::first_records;

use super::boot::{boot, boot_until, labelled};
use super::figure::{Figure, Section};

/// The name of the section with the floors.
const FLOOR: &str = "floor";
/// The label of the program's lines.
const LABEL: &str = "lengths: ";
/// The kinds of events that the measured paths record.
const TRACED: &str = "user,fault,program";
/// The id of the program's user event before a copy ends.
const ENDING: u64 = 2;

/// Measures the floor: a system call whose entry point only returns, and one that also switches the stack and saves
/// registers.
///
/// # Errors
/// If a boot fails or prints no figure.
pub fn floor(progress: &dyn Fn(&str)) -> Result<Section, Error> {
    progress("instructions, the floor");
    let figures = [("shortest", 1), ("with stack and registers", 2)].map(|(name, level)| {
        let words = format!("--icount --smp 1 --cmdline floor={level} lengths floor");
        Ok(Figure::exact(name, printed(&words)?))
    });
    Ok(Section {
        name: FLOOR.to_owned(),
        how: "a call whose entry point is swapgs, swapgs, sysretq; the same with the stack switch and the registers \
              that compiled code may overwrite; --cmdline floor=1 and floor=2"
            .to_owned(),
        figures: figures.into_iter().collect::<Result<_, Error>>()?,
    })
}

/// Writes each exact figure as a multiple of the first floor.
pub fn set_multiples(sections: &mut [Section]) {
    let floor = sections.iter().find(|section| section.name == FLOOR);
    let Some(floor) = floor.and_then(|section| Some(section.figures.first()?.value)) else { return };
    for figure in sections.iter_mut().flat_map(|section| &mut section.figures) {
        figure.floors = Some(figure.value / floor);
    }
}

/// Measures interrupts, the exit by `iretq`, and the end and the start of a program.
///
/// # Errors
/// If a boot fails or prints no figure.
pub fn sections(progress: &dyn Fn(&str)) -> Result<[Section; 2], Error> {
    progress("instructions, interrupts");
    let tick =
        |keys: &str| printed(&format!("--icount --smp 1 --tick-hz 1000 --cmdline {keys} lengths tick"));
    // One IPI per second, so that the shortest tick sends none.
    let with_work = tick("ipi_storm=1")?;
    let mut figures = vec![
        Figure::exact("null, exit by iretq", of_call_by_iretq(progress)?),
        Figure::exact("tick with work that is not due", with_work),
        Figure::exact("IPI to the same CPU, sent and taken", tick("ipi_storm=1000")? - with_work),
        Figure::exact("NMI to the same CPU, sent and taken", tick("nmi_storm=1000")? - with_work),
    ];
    progress("instructions, the end of a program");
    let (exit, fault) = (traced("exit", Outcome::Pass)?, traced("fault", Outcome::Failed)?);
    let ends = |records: &[Record]| shortest(records, is_ending, |next| is(next, Kind::ProgramEnd));
    figures.push(Figure::exact("SYS_EXIT, until the program has ended", ends(&exit)?));
    figures.push(Figure::exact("page fault, until the program has ended", ends(&fault)?));
    let restart = |records: &[Record]| {
        let start = |next: &Record| is(next, Kind::ProgramStart);
        shortest(records, |record| is(record, Kind::ProgramEnd), start)
    };
    let restarted = Figure::exact("from a program's end to its next start", restart(&exit)?);
    let start = Section {
        name: "program start".to_owned(),
        how: "distance of two trace events of the program lengths; depends on the size of the program"
            .to_owned(),
        figures: vec![restarted.outside_baseline()],
    };
    let paths = Section {
        name: "other paths".to_owned(),
        how: "the program lengths; the last two are distances of trace events, so SYS_EXIT's includes one record, and the \
              page fault's two"
            .to_owned(),
        figures,
    };
    Ok([paths, start])
}

/// Returns the length of a null system call that returns by `iretq`. Only a call with TF set does, and TF ends the
/// program with a debug exception, so the length is the difference between two distances in traces.
fn of_call_by_iretq(progress: &dyn Fn(&str)) -> Result<f64, Error> {
    progress("instructions, exit by iretq");
    let fault = |kind| shortest(&traced(kind, Outcome::Failed)?, is_ending, |next| is(next, Kind::Fault));
    Ok(fault("iret")? - fault("trap")?)
}

/// Boots the program and returns the figure that it prints.
fn printed(words: &str) -> Result<f64, Error> {
    let words: Vec<_> = words.split(' ').collect();
    let boot = boot(&words)?;
    let figure = labelled(&boot.stdout, LABEL).find_map(|words| words.get(1)?.parse().ok());
    figure.ok_or_else(|| {
        Error::Host(format!("the program has printed no figure: xtask run {}", words.join(" ")))
    })
}

/// Boots the program, which starts several times, and returns the records of its trace.
fn traced(kind: &str, outcome: Outcome) -> Result<Vec<Record>, Error> {
    let folder = tempfile::tempdir();
    let folder =
        folder.map_err(|error| Error::File("cannot create a directory for the trace".to_owned(), error))?;
    let file = folder.path().join("lengths.rtrace");
    let path = file.to_str().ok_or_else(|| Error::Host("the temporary directory is not UTF-8".to_owned()))?;
    let words = ["--icount", "--smp", "1", "--tick-hz", "1", "--repeat", "4", "--cmdline", "deaths=go-on"];
    boot_until(&[&words[..], &["--trace", TRACED, "--trace-out", path, "lengths", kind]].concat(), outcome)?;
    Ok(first_records(&file)?)
}

fn is(record: &Record, kind: Kind) -> bool {
    record.kind == kind as u16
}

fn is_ending(record: &Record) -> bool {
    is(record, Kind::User) && record.a == ENDING
}

/// Returns the shortest distance from a record to the next one of another kind.
fn shortest(
    records: &[Record],
    from: impl Fn(&Record) -> bool,
    to: impl Fn(&Record) -> bool,
) -> Result<f64, Error> {
    let starts = records.iter().enumerate().filter(|(_, record)| from(record));
    let distances = starts.filter_map(|(n, record)| {
        let next = records[n + 1..].iter().find(|next| to(next))?;
        Some(next.tsc.wrapping_sub(record.tsc))
    });
    let least = distances.min();
    least
        .map(|ticks| ticks as f64)
        .ok_or_else(|| Error::Host("a trace lacks the events of the program lengths".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortest_distance_is_found() {
        let record = |kind: Kind, a, tsc| Record { kind: kind as u16, a, tsc, ..Record::default() };
        let records = [
            record(Kind::User, ENDING, 100),
            record(Kind::User, 1, 105),
            record(Kind::ProgramEnd, 0, 130),
            record(Kind::User, ENDING, 200),
            record(Kind::ProgramEnd, 0, 220),
            record(Kind::User, ENDING, 300),
        ];
        let ends = |records: &[Record]| shortest(records, is_ending, |next| is(next, Kind::ProgramEnd));
        assert_eq!(ends(&records).expect("there must be a distance"), 20.0);
        assert!(ends(&records[4..]).is_err());
    }

    #[test]
    fn multiples_are_of_the_first_floor() {
        let section = |name: &str, values: &[f64]| {
            let figures = values.iter().map(|value| Figure::exact("f", *value)).collect();
            Section { name: name.to_owned(), how: String::new(), figures }
        };
        let mut sections = [section("calls", &[36.0]), section(FLOOR, &[4.0, 23.0])];
        set_multiples(&mut sections);
        let multiples = sections.iter().flat_map(|section| &section.figures).map(|figure| figure.floors);
        assert_eq!(multiples.collect::<Vec<_>>(), [Some(9.0), Some(1.0), Some(5.75)]);
        let mut sections = [section("calls", &[36.0])];
        set_multiples(&mut sections);
        assert_eq!(sections[0].figures[0].floors, None);
    }
}
