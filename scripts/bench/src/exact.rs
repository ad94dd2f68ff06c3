//! The exact figures: instructions under `-icount`, from the program `bench`.

use std::collections::BTreeMap;

use machine::error::Error;

use super::boot::{boot, labelled};
use super::figure::{Figure, Section};
use super::options::Part;
use super::paths;

/// The label of the program's lines.
const LABEL: &str = "bench: ";
/// The number of CPUs for the comparison of the last CPU with the only one.
const MANY: usize = 64;

/// Measures the exact figures of these parts. Reports each boot to `progress`.
///
/// # Errors
/// If a boot fails or prints no figures.
pub fn sections(parts: &[Part], progress: &dyn Fn(&str)) -> Result<Vec<Section>, Error> {
    let is_tick = |name: &str| name.starts_with("tick_");
    let mut sections = Vec::new();
    for part in parts {
        match part {
            Part::Floor => sections.push(paths::floor(progress)?),
            Part::Calls => {
                let figures = measure("--icount --smp 1 --tick-hz 1000 bench", "one CPU", progress)?;
                let (ticks, calls): (Vec<_>, Vec<_>) = figures.iter().partition(|(name, _)| is_tick(name));
                let how = "from ring 3 and back, loop subtracted; --icount --smp 1";
                sections.push(section("system calls", how, calls.into_iter()));
                let how = "gaps between readings of the TSC in ring 3, the gap without a tick subtracted";
                sections.push(section("ticks", how, ticks.into_iter()));
            }
            Part::Recorded => {
                let words = "--icount --smp 1 --tick-hz 1000 --cmdline trace=syscall bench";
                let figures = measure(words, "one CPU, recorded", progress)?;
                let calls = figures.iter().filter(|(name, _)| !is_tick(name));
                let how = "from ring 3 and back, loop subtracted; --icount --smp 1 --cmdline trace=syscall";
                sections.push(section("recorded system calls", how, calls));
            }
            Part::Paths => sections.extend(paths::sections(progress)?),
            Part::LastCpu => {
                let words = format!("--icount --smp {MANY} --tick-hz 10 bench {}", MANY - 1);
                let figures = measure(&words, "the last of 64 CPUs", progress)?;
                // With several CPUs, QEMU runs other CPUs when one reads the TSC, and counts their instructions, too.
                let calls = figures.iter().filter(|(name, _)| !is_tick(name) && *name != "clock_ns");
                let how = format!("from ring 3 and back, loop subtracted; {words}");
                sections.push(section("system calls on CPU 63 of 64", &how, calls));
            }
            // Its figures depend on the host.
            Part::Host => {}
        }
    }
    paths::set_multiples(&mut sections);
    Ok(sections)
}

/// Boots the program, and returns its figures.
fn measure(words: &str, what: &str, progress: &dyn Fn(&str)) -> Result<BTreeMap<String, f64>, Error> {
    progress(&format!("instructions, {what}"));
    let words: Vec<_> = words.split(' ').collect();
    let figures = parse(&boot(&words)?.stdout);
    if figures.is_empty() {
        return Err(Error::Host("the program bench has printed no figures".to_owned()));
    }
    Ok(figures)
}

/// Parses the program's lines. The figures are in hundredths.
pub fn parse(console: &str) -> BTreeMap<String, f64> {
    let figure = |words: Vec<&str>| match words[..] {
        [name, hundredths] => Some((name.to_owned(), hundredths.parse::<u64>().ok()? as f64 / 100.0)),
        _ => None,
    };
    labelled(console, LABEL).filter_map(figure).collect()
}

fn section<'a>(name: &str, how: &str, figures: impl Iterator<Item = (&'a String, &'a f64)>) -> Section {
    let figure = |(name, value): (&String, &f64)| match name.ends_with("_mean") {
        // A mean depends on which ticks fall into the measurement.
        true => Figure::exact(name, *value).outside_baseline(),
        false => Figure::exact(name, *value),
    };
    let figures = figures.map(figure).collect();
    Section { name: name.to_owned(), how: how.to_owned(), figures }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_parsed_from_the_console() {
        let stdout =
            "[cpu0] bench: null 3600\n[cpu0] other line\n[cpu0] bench: tick_mean 6150\nbench: no cpu 1\n";
        let figures = parse(stdout);
        assert_eq!(
            figures.into_iter().collect::<Vec<_>>(),
            [("null".to_owned(), 36.0), ("tick_mean".to_owned(), 61.5)]
        );
    }
}
