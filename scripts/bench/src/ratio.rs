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

/// The sums over all CPUs of one boot of the program `scaling`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// System calls per second.
    pub calls: f64,
    /// Rounds of the empty loop per second.
    pub loops: f64,
}

/// Boots the program `scaling` on this many CPUs of a machine.
///
/// # Errors
/// If the boot fails or prints no figures.
pub fn rates(cpus: usize, machine: usize) -> Result<Rates, Error> {
    let words = format!("--smp {machine} scaling {cpus}");
    let words: Vec<_> = words.split(' ').collect();
    let rates = parse(&boot(&words)?.stdout);
    if rates.calls > 0.0 && rates.loops > 0.0 {
        Ok(rates)
    } else {
        Err(Error::Host("the program scaling has printed no figures".to_owned()))
    }
}

/// Adds the rates of all CPUs.
pub fn parse(console: &str) -> Rates {
    let mut sum = Rates { calls: 0.0, loops: 0.0 };
    for words in labelled(console, "scaling: ") {
        let numbers: Vec<f64> = words.iter().filter_map(|word| word.parse().ok()).collect();
        if let [calls, call_ns, loops, loop_ns] = numbers[..] {
            sum.calls += calls / call_ns * 1e9;
            sum.loops += loops / loop_ns * 1e9;
        }
    }
    sum
}

/// Measures calls per second on 1 to N CPUs, where N is the number of the host's CPUs (at most 8).
fn scaling(samples: usize, progress: &dyn Fn(&str)) -> Result<Section, Error> {
    let host = std::thread::available_parallelism().map_or(1, usize::from).clamp(1, 8);
    let mut all: Vec<Vec<Rates>> = vec![Vec::new(); host];
    for sample in 1..=samples {
        progress(&format!("calls a second, {sample} of {samples}"));
        // One after the other, so that a change of the host's speed affects all counts of CPUs.
        for (index, rates_of) in all.iter_mut().enumerate() {
            rates_of.push(rates(index + 1, host)?);
        }
    }
    let mut figures = Vec::new();
    for (index, rates) in all.iter().enumerate() {
        let calls: Vec<_> = rates.iter().map(|rates| rates.calls).collect();
        figures.push(Figure::median(
            format!("calls a second, {}", output::count(index as u64 + 1, "CPU")),
            &calls,
            "calls/s",
        ));
        if index > 0 {
            let efficiency: Vec<_> =
                rates.iter().zip(&all[0]).map(|(many, one)| efficiency(*one, *many)).collect();
            figures.push(Figure::median(
                format!("scaling efficiency, 1 to {}", index + 1),
                &efficiency,
                "times",
            ));
        }
    }
    Ok(Section {
        name: "parallel system calls".to_owned(),
        how: format!(
            "null calls on 1 to {host} CPUs at the same time, boots alternate, median of {samples}; the efficiency is \
             the growth of the calls, divided by that of a loop without calls"
        ),
        figures,
    })
}

/// Returns how much faster many CPUs make calls than one, relative to a loop without calls.
fn efficiency(one: Rates, many: Rates) -> f64 {
    (many.calls / one.calls) / (many.loops / one.loops)
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
        let stdout = "[cpu0] scaling: 1000 1000000 4000 2000000\n[cpu1] scaling: 500 1000000 2000 1000000\n";
        let rates = parse(stdout);
        assert_eq!(rates, Rates { calls: 1_500_000.0, loops: 4_000_000.0 });
    }

    #[test]
    fn speed_of_the_host_has_no_effect_on_the_efficiency() {
        let one = Rates { calls: 10.0, loops: 100.0 };
        let twice = efficiency(one, Rates { calls: 19.0, loops: 200.0 });
        let slow = efficiency(one, Rates { calls: 9.5, loops: 100.0 });
        assert!((twice - 0.95).abs() < 1e-9 && (slow - 0.95).abs() < 1e-9);
    }
}
