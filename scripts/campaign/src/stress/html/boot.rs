//! What the page shows of one boot: facts, tables, and a place for each picture with its table below it.

use std::fmt::Write;

use Column::{Code, Number, Text};
use trace::shape::{Described, NO_SYSCALL, syscall_name};
use trace::spans::Span;
use trace::stats::CallFigures;
use trace::survey::Survey;
use trace::timeline::Lane;

use super::charts::{deviation_floor, deviations};
use super::markup::{Column, escaped, facts, folded, table};
use crate::stress::evidence::Evidence;
use crate::stress::problem::call_name;
use crate::stress::result::{Boot, CpuResult};

/// Rows of the table of calls over time at most.
const RATE_ROWS: usize = 40;
/// The latest events of each CPU that the timeline's table has.
const LATEST: usize = 16;

/// The `n`-th boot that is shown.
pub fn section(n: usize, boot: &Boot, evidence: &Evidence) -> String {
    let open = if n == 0 { " open" } else { "" };
    let mut html = format!(
        "<section>\n<details class=\"boot\" data-boot=\"{n}\" id=\"boot-{seed}\"{open}><summary><h2>Boot with seed {seed}: \
         {outcome}</h2></summary>\n{facts}",
        seed = boot.seed,
        outcome = boot.outcome.name(),
        facts = facts(&of(boot, evidence)),
    );
    if !boot.problems.is_empty() {
        let items = boot.problems.iter().map(|problem| format!("<li>{}</li>\n", escaped(&problem.what)));
        html += &format!("<h3>Problems</h3>\n<ul class=\"problems\">\n{}</ul>\n", items.collect::<String>());
    }
    if !boot.warnings.is_empty() {
        let items = boot.warnings.iter().map(|text| format!("<li>{}</li>\n", escaped(text)));
        let list = format!("<ul>\n{}</ul>\n", items.collect::<String>());
        html += &folded(&format!("Warnings: {}", boot.warnings.len()), &list);
    }
    html += &format!("<h3>CPUs</h3>\n{}", cpus(boot, evidence));
    html += &folded("System calls by number, as the kernel counts them", &counts(&boot.cpus));
    match &evidence.trace {
        Ok(trace) => {
            html += &timeline(trace);
            html += &latency(trace);
        }
        Err(why) => {
            let _ = writeln!(html, "<p class=\"note\">There is no trace of this boot: {}</p>", escaped(why));
        }
    }
    html += &rate(evidence);
    html += &jitter(evidence);
    html + "</details>\n</section>\n"
}

fn of(boot: &Boot, evidence: &Evidence) -> Vec<(Column<'static>, String)> {
    let seconds = boot.seconds;
    let rate = if seconds > 0.0 { boot.syscalls() as f64 / seconds } else { 0.0 };
    let mut facts = vec![
        (Text("Outcome"), boot.outcome.name().to_owned()),
        (Code("Again"), boot.replay.clone()),
        (
            Text("System calls"),
            format!("{} in {seconds:.2} s, boot included: {rate:.0} a second", boot.syscalls()),
        ),
    ];
    if let Some(found) = &evidence.boot {
        let mode = if found.x2apic { "x2APIC" } else { "xAPIC" };
        let cpus = format!("{} of {} online, {mode}", found.cpus_online, found.cpus_found);
        facts.push((Text("CPUs"), cpus));
        let mhz = |hz: u64| hz as f64 / 1e6;
        let clock = format!("tick {} Hz, TSC {:.3} MHz", found.tick_hz, mhz(found.tsc_hz));
        facts.push((Text("Clock"), clock));
        facts.push((
            Text("Memory"),
            format!("{} MiB, {} KiB a CPU", found.memory_kib / 1024, found.per_cpu_kib),
        ));
    }
    if let Ok(trace) = &evidence.trace {
        let overwritten = trace.header.total(|cpu| cpu.overwritten);
        let text = format!(
            "the latest {} events of all CPUs, over {:.3} s; {overwritten} older ones were overwritten",
            trace.report.events, trace.report.seconds
        );
        facts.push((Text("Trace"), text));
    }
    for (name, path) in [("Log", &boot.log), ("Trace file", &boot.trace)] {
        facts.extend(path.as_ref().map(|path| (Code(name), path.display().to_string())));
    }
    facts.push((Code("QEMU"), evidence.qemu.clone()));
    facts
}

/// A row for each CPU. The cells that the result has as well are marked with its names.
fn cpus(boot: &Boot, evidence: &Evidence) -> String {
    let mut html = "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"CPUs\"><table class=\"cpus\"><caption>What \
                    each CPU did; shares of time are those of the trace, idling behind the program\u{2019}s end included; of a CPU that did not come to \
                    its report, what it had counted in the guest\u{2019}s memory</caption><thead><tr>"
        .to_owned();
    for name in
        ["CPU", "System calls", "Calls of the mix", "Calls/s", "Lines", "Ticks", "Ring 3", "Ring 0", "Idle"]
    {
        let _ = write!(html, "<th scope=\"col\" class=\"n\">{name}</th>");
    }
    html += "</tr></thead><tbody>\n";
    for cpu in &boot.cpus {
        let id = cpu.cpu;
        let traced = evidence.trace.as_ref().ok();
        let shares = traced.and_then(|trace| trace.report.cpus.iter().find(|figures| figures.cpu == id));
        let percent =
            |share: Option<f64>| share.map_or("-".to_owned(), |share| format!("{:.1} %", 100.0 * share));
        let rate = if boot.seconds > 0.0 { cpu.syscalls as f64 / boot.seconds } else { 0.0 };
        let _ = writeln!(
            html,
            "<tr data-cpu=\"{id}\"><th scope=\"row\" class=\"n\">{id}</th><td class=\"n\" data-field=\"syscalls\">{}</td>\
             <td class=\"n\" data-field=\"calls\">{}</td><td class=\"n\">{rate:.0}</td><td class=\"n\" \
             data-field=\"lines\">{}</td><td class=\"n\" data-field=\"ticks\">{}</td><td class=\"n\">{}</td><td \
             class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            cpu.syscalls,
            cpu.calls.map_or("-".to_owned(), |calls| calls.to_string()),
            cpu.lines,
            cpu.ticks,
            percent(shares.and_then(|shares| shares.ring3)),
            percent(shares.and_then(|shares| shares.ring0)),
            percent(shares.and_then(|shares| shares.idle)),
        );
    }
    html + "</tbody></table></div>\n"
}

/// System calls of each CPU by number; numbers that nobody called are left out.
fn counts(cpus: &[CpuResult]) -> String {
    let longest = cpus.iter().map(|cpu| cpu.counts.len()).max().unwrap_or(0);
    let count = |cpu: &CpuResult, number: usize| cpu.counts.get(number).copied().unwrap_or(0);
    let called = (0..longest).filter(|number| cpus.iter().any(|cpu| count(cpu, *number) != 0));
    let names: Vec<_> = cpus.iter().map(|cpu| format!("CPU {}", cpu.cpu)).collect();
    let columns: Vec<_> =
        std::iter::once(Text("System call")).chain(names.iter().map(|name| Number(name))).collect();
    let row = |number: usize| {
        let cells = cpus.iter().map(|cpu| count(cpu, number).to_string());
        std::iter::once(call_name(number)).chain(cells).collect()
    };
    table("System calls by number", &columns, called.map(row))
}

/// A place for a picture, with what it shows in words and its table.
fn figure(kind: &str, heading: &str, text: &str, table: &str) -> String {
    format!(
        "<h3>{heading}</h3>\n<figure class=\"chart\" data-chart=\"{kind}\">\n<figcaption>{text}</figcaption>\n<div \
         class=\"plot\" tabindex=\"0\" role=\"img\" aria-label=\"{heading}; the table below has its numbers\"></div>\n\
         <output></output>\n{}</figure>\n",
        folded("The numbers as a table", table)
    )
}

fn timeline(trace: &Survey) -> String {
    let mut rows: Vec<(u32, u64, String, String)> = Vec::new();
    trace.timeline.lanes.iter().for_each(|lane| rows.extend(latest(lane)));
    let cells = rows.into_iter().map(|(cpu, ns, what, length)| {
        vec![cpu.to_string(), format!("{:.6}", ns as f64 / 1e6), what, length]
    });
    let columns = [Number("CPU"), Number("At, ms"), Text("What"), Number("Took, µs")];
    figure(
        "timeline",
        "The last moments",
        "Each CPU\u{2019}s system calls and idle times as bars; ticks, interrupts and other events as marks above them. \
         Between two calls the CPU is in ring 3. Times are since the kernel\u{2019}s start.",
        &table("The latest of each CPU", &columns, cells),
    )
}

/// The latest slices and marks of a CPU, in the order of time: CPU, when, what, and how long.
fn latest(lane: &Lane) -> Vec<(u32, u64, String, String)> {
    let cpu = lane.cpu.cpu;
    let slices = lane.slices.iter().rev().take(LATEST).map(|slice| {
        let what = match slice.span {
            Span::Syscall(number) => syscall_name(number).unwrap_or(NO_SYSCALL),
            Span::Program => "program",
            Span::Idle => "idle",
        };
        let cut = if slice.whole { "" } else { " (cut)" };
        let length = format!("{:.3}", (slice.end - slice.begin) as f64 / 1e3);
        (cpu, slice.begin, format!("{what}{cut}"), length)
    });
    let marks = lane.marks.iter().rev().take(LATEST);
    let marks = marks.map(|mark| (cpu, mark.ns, Described(&mark.record).to_string(), String::new()));
    let mut rows: Vec<_> = slices.chain(marks).collect();
    rows.sort_by_key(|(_, ns, ..)| *ns);
    rows.split_off(rows.len().saturating_sub(LATEST))
}

fn latency(trace: &Survey) -> String {
    let columns = ["CPU", "Entered", "Timed", "Min", "Median", "p99", "p99.9", "Max"].map(Number);
    let columns = [&columns[..1], &[Text("System call")], &columns[1..]].concat();
    let row = |figures: &CallFigures| {
        let cpu = figures.cpu.map_or("all".to_owned(), |cpu| cpu.to_string());
        let mut row =
            vec![cpu, figures.name.to_owned(), figures.entered.to_string(), figures.timed.to_string()];
        if let Some(ns) = &figures.ns {
            let times = [ns.min, ns.median, ns.p99, ns.p999, ns.max];
            row.extend(times.map(|ns| format!("{:.3}", ns as f64 / 1e3)));
        }
        row
    };
    figure(
        "latency",
        "How long system calls take",
        "Calls in the trace by the time from the event on their way in to the one on their way out, both scales \
         logarithmic. The host\u{2019}s scheduling is in it: compare within one boot.",
        &table("Times of system calls, in µs", &columns, trace.report.syscalls.iter().map(row)),
    )
}

fn rate(evidence: &Evidence) -> String {
    if evidence.clock.is_none() {
        return "<p class=\"note\">The CPUs\u{2019} counters were not found in the guest\u{2019}s memory.</p>\n".to_owned();
    }
    let speeds = evidence.samples.speeds();
    let names: Vec<_> = (0..evidence.samples.last().len()).map(|cpu| format!("CPU {cpu}")).collect();
    let columns: Vec<_> =
        std::iter::once(Number("Until, s")).chain(names.iter().map(|name| Number(name))).collect();
    let step = speeds.len().div_ceil(RATE_ROWS).max(1);
    let row = |(second, speeds): &(f64, Vec<f64>)| {
        let cells = speeds.iter().map(|speed| format!("{speed:.0}"));
        std::iter::once(format!("{second:.2}")).chain(cells).collect()
    };
    let last: Vec<_> = evidence.samples.last().iter().map(u64::to_string).collect();
    let html = figure(
        "rate",
        "System calls a second",
        "Read from the memory of the running guest, by the host\u{2019}s clock since QEMU\u{2019}s start.",
        &table("System calls a second", &columns, speeds.iter().step_by(step).map(row)),
    );
    html + &format!(
        "<p class=\"note\">At the last look: <span data-last-look>{}</span> calls.</p>\n",
        last.join(" ")
    )
}

fn jitter(evidence: &Evidence) -> String {
    let Some(clock) = &evidence.clock else { return String::new() };
    let names: Vec<_> = (0..evidence.counters.len()).map(|cpu| format!("CPU {cpu}")).collect();
    let columns: Vec<_> =
        std::iter::once(Number("At least, µs")).chain(names.iter().map(|name| Number(name))).collect();
    let row = |class: usize| {
        let floor = if class == 0 { 0.0 } else { deviation_floor(class, clock.tsc_hz) };
        let cells = evidence.counters.iter().map(|cpu| cpu.deviations[class].to_string());
        std::iter::once(format!("{floor:.3}")).chain(cells).collect()
    };
    figure(
        "jitter",
        "How even the ticks come",
        &format!(
            "All ticks of the run by how far the time since the tick before is from the period, {:.0} µs. The kernel counts \
             them, in classes of powers of two.",
            1e6 / f64::from(clock.tick_hz.max(1))
        ),
        &table("Ticks by their deviation from the period", &columns, deviations(evidence).map(row)),
    )
}
