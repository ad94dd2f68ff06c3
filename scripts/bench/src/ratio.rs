//! The figures that depend on the host: calls a second, bring-up, and sizes.

use machine::build;
use machine::error::Error;
use measure::start::{self, Pair};
use object::{Object, ObjectSection};

use super::boot::{boot, labelled};
use super::figure::{Figure, Method, Section};

/// The number of measurements of which the median is taken.
const SAMPLES: usize = 5;
/// The same with `--quick`.
const QUICK_SAMPLES: usize = 3;

/// Measures all sections. With `quick`, takes fewer samples and leaves out the machines of many CPUs. Reports each
/// measurement to `progress`.
///
/// # Errors
/// If a boot fails or prints no figures.
pub fn sections(quick: bool, progress: &dyn Fn(&str)) -> Result<Vec<Section>, Error> {
    let samples = if quick { QUICK_SAMPLES } else { SAMPLES };
    Ok(vec![
        scaling(samples, progress)?,
        bring_up(samples, quick, progress)?,
        start(samples, progress)?,
        sizes()?,
    ])
}

/// The rates of one boot of the program `scaling`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// System calls per second of CPU 0 alone.
    pub alone: f64,
    /// System calls per second of all CPUs together.
    pub calls: f64,
    /// Rounds of the empty loop per second of CPU 0 alone.
    pub empty_alone: f64,
    /// Rounds of the empty loop per second of all CPUs together.
    pub empty: f64,
}

/// Boots the program `scaling` on this many CPUs.
///
/// # Errors
/// If the boot fails or prints no figures.
pub fn rates(cpus: usize) -> Result<Rates, Error> {
    let words = format!("--smp {cpus} scaling");
    let words: Vec<_> = words.split(' ').collect();
    let rates = parse(&boot(&words)?.stdout);
    if [rates.alone, rates.calls, rates.empty_alone, rates.empty].iter().all(|&rate| rate > 0.0) {
        Ok(rates)
    } else {
        Err(Error::Host("the program scaling has printed no figures".to_owned()))
    }
}

/// Adds the rates of all CPUs. The init process for Linux prints only those of all CPUs together.
pub fn parse(console: &str) -> Rates {
    let mut sum = Rates::default();
    let rate = |rounds: f64, ns: f64| if ns > 0.0 { rounds / ns * 1e9 } else { 0.0 };
    for words in labelled(console, "scaling: ") {
        let numbers: Vec<f64> = words.iter().filter_map(|word| word.parse().ok()).collect();
        match numbers[..] {
            [calls, call_ns, empty, empty_ns] => {
                sum.calls += rate(calls, call_ns);
                sum.empty += rate(empty, empty_ns);
            }
            [alone, alone_ns, calls, call_ns, empty_alone, empty_alone_ns, empty, empty_ns] => {
                sum.alone += rate(alone, alone_ns);
                sum.calls += rate(calls, call_ns);
                sum.empty_alone += rate(empty_alone, empty_alone_ns);
                sum.empty += rate(empty, empty_ns);
            }
            _ => {}
        }
    }
    sum
}

/// Measures calls per second on 1 to N CPUs, where N is the number of the host's CPUs (2 to 8).
fn scaling(samples: usize, progress: &dyn Fn(&str)) -> Result<Section, Error> {
    let host = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
    let mut figures = Vec::new();
    for cpus in 2..=host {
        let mut rates_of = Vec::new();
        for sample in 1..=samples {
            progress(&format!("calls a second on {cpus} CPUs, {sample} of {samples}"));
            rates_of.push(rates(cpus)?);
        }
        let median = |name: String, unit, of: fn(&Rates) -> f64| {
            Figure::median(name, &rates_of.iter().map(of).collect::<Vec<_>>(), unit)
        };
        if cpus == 2 {
            figures.push(median("calls a second, 1 CPU".to_owned(), "calls/s", |rates| rates.alone));
        }
        figures.push(median(format!("calls a second, {cpus} CPUs"), "calls/s", |rates| rates.calls));
        figures.push(median(format!("scaling efficiency, 1 to {cpus}"), "times", efficiency));
    }
    Ok(Section {
        name: "parallel system calls".to_owned(),
        how: format!(
            "null calls on one CPU and on all at the same time, alternately in each boot, median of {samples} boots; \
             the efficiency is the growth of the calls, divided by that of a loop without calls"
        ),
        figures,
    })
}

/// Returns how much faster all CPUs make calls than one, relative to a loop without calls.
fn efficiency(rates: &Rates) -> f64 {
    (rates.calls / rates.alone) / (rates.empty / rates.empty_alone)
}

/// Measures the time from the first INIT to the last arrival.
fn bring_up(samples: usize, quick: bool, progress: &dyn Fn(&str)) -> Result<Section, Error> {
    let counts: &[usize] = if quick { &[2, 4] } else { &[2, 4, 16, 64] };
    let mut figures = Vec::new();
    for cpus in counts {
        progress(&format!("bring-up of {cpus} CPUs"));
        let mut times = Vec::new();
        for _ in 0..samples {
            let count = cpus.to_string();
            let boot = boot(&["--smp", &count, "hello"])?;
            let ns = boot.json["boot"]["bring_up_ns"].as_f64();
            times.push(ns.ok_or_else(|| Error::Host("a run has no bring_up_ns".to_owned()))? / 1e6);
        }
        figures.push(Figure::median(format!("bring-up, {cpus} CPUs"), &times, "ms"));
    }
    Ok(Section {
        name: "bring-up".to_owned(),
        how: format!(
            "from the first INIT to the last arrival, 10 ms of which are INIT's wait; median of {samples}"
        ),
        figures,
    })
}

/// Measures the time from QEMU's start to the first program's output.
fn start(samples: usize, progress: &dyn Fn(&str)) -> Result<Section, Error> {
    // The times of single boots vary more than others, and a boot is short.
    let pairs = 2 * samples + 1;
    let found = start::measure(pairs, |pair| progress(&format!("start of QEMU, {pair} of {pairs}")))?;
    let times = |of: fn(&Pair) -> f64| found.iter().map(of).collect::<Vec<_>>();
    let figures = vec![
        Figure::median("bare kernel's byte", &times(|pair| pair.bare), "ms"),
        Figure::median(format!("first program, {} CPUs", start::CPUS), &times(|pair| pair.ringside), "ms"),
        Figure::median("ratio, INIT's 10 ms subtracted", &times(|pair| pair.ratio()), "times"),
    ];
    Ok(Section {
        name: "QEMU's start to ring 3".to_owned(),
        how: format!(
            "to the first byte of the first program's output, beside a kernel that writes a byte and ends; boots \
             alternate, median of {pairs}"
        ),
        figures,
    })
}

/// Reads the sizes of the kernel and of a CPU's area.
fn sizes() -> Result<Section, Error> {
    let (_, kernel) = build::kernel_sizes()?;
    let boot = boot(&["--smp", "2", "hello"])?;
    let area = boot.json["boot"]["per_cpu_kib"].as_f64();
    let mut figures =
        vec![Figure::of("kernel without programs", kernel as f64 / 1024.0, "KiB", Method::Size)];
    figures.extend(elf_sections()?);
    figures.extend(area.map(|kib| Figure::of("memory per CPU", kib, "KiB", Method::Size)));
    Ok(Section {
        name: "sizes".to_owned(),
        how: "of the stripped kernel, of the parts of its ELF that are in memory, and of one CPU's area"
            .to_owned(),
        figures,
    })
}

/// Returns the size of each section that is in memory when the kernel runs. `.rodata` contains the programs.
fn elf_sections() -> Result<Vec<Figure>, Error> {
    let path = build::kernel_path();
    let bytes = std::fs::read(&path).map_err(|error| Error::file("read", &path, error))?;
    let bad = |error| Error::Host(format!("{} is not an ELF file: {error}", path.display()));
    let file = object::File::parse(&*bytes).map_err(bad)?;
    let mut figures = Vec::new();
    for section in file.sections().filter(|section| section.address() != 0 && section.size() != 0) {
        let name = format!("section {}", section.name().map_err(bad)?);
        figures.push(Figure::of(name, section.size() as f64 / 1024.0, "KiB", Method::Size));
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_of_all_cpus_are_added() {
        let stdout =
            "[cpu0] scaling: 20 1000 30 1000 60 1000 90 1000\n[cpu1] scaling: 0 0 10 500 0 0 90 1000\n";
        let (alone, calls, empty_alone, empty) = (2e7, 5e7, 6e7, 18e7);
        assert_eq!(parse(stdout), Rates { alone, calls, empty_alone, empty });
        let linux = parse("scaling: 30 1000 90 1000\n");
        assert_eq!((linux.calls, linux.empty, linux.alone), (3e7, 9e7, 0.0));
    }

    #[test]
    fn speed_of_the_host_has_no_effect_on_the_efficiency() {
        let of = |alone, calls, empty_alone, empty| efficiency(&Rates { alone, calls, empty_alone, empty });
        assert!((of(10.0, 19.0, 100.0, 200.0) - 0.95).abs() < 1e-9);
        // All CPUs together get half of the host's time.
        assert!((of(10.0, 9.5, 100.0, 100.0) - 0.95).abs() < 1e-9);
    }
}
