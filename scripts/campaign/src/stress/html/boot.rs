//! Formats the report's section about one boot: facts, tables, and an element for each chart with its table.

use std::fmt::Write;

use Column::{Code, Number, Text};
use output::count;
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

/// Maximum number of rows in the table of calls over time.
const RATE_ROWS_MAX: usize = 40;
/// Number of latest events of each CPU in the timeline's table.
const LATEST: usize = 16;

/// Formats the section of the `n`-th shown boot.
pub fn section(n: usize, boot: &Boot, evidence: &Evidence) -> String {
    let open = if n == 0 { " open" } else { "" };
    let mut html = format!(
        "<section>\n<details class=\"boot\" data-boot=\"{n}\" id=\"boot-{seed}\"{open}><summary><h2>Boot with seed {seed}: \
         {outcome}</h2></summary>\n{facts}",
        seed = boot.seed,
        outcome = boot.outcome.name(),
        facts = facts(&boot_facts(boot, evidence)),
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
    html += &folded("System calls by number, as counted by the kernel", &counts(&boot.cpus));
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

/// Returns the list of facts.
fn boot_facts(boot: &Boot, evidence: &Evidence) -> Vec<(Column<'static>, String)> {
    let seconds = boot.seconds;
    let rate = if seconds > 0.0 { boot.syscalls() as f64 / seconds } else { 0.0 };
    let mut facts = vec![
        (Text("Outcome"), boot.outcome.name().to_owned()),
        (Code("Replay command"), boot.replay.clone()),
        (
            Text("System calls"),
            format!("{} in {seconds:.2} s including the boot: {rate:.0} per second", boot.syscalls()),
        ),
    ];
    if let Some(found) = &evidence.boot {
        let mode = if found.x2apic { "x2APIC" } else { "xAPIC" };
        let cpus = format!("{} of {} online, {mode}", found.cpus_online, found.cpus_found);
        facts.push((Text("CPUs"), cpus));
        let mhz = |hz: u64| hz as f64 / 1e6;
        let clock = format!("tick {} Hz, TSC {:.3} MHz by {}", found.tick_hz, mhz(found.tsc_hz), found.clock);
        facts.push((Text("Clock"), clock));
        facts.push((
            Text("Memory"),
            format!("{} MiB, {} KiB per CPU", found.memory_kib / 1024, found.per_cpu_kib),
        ));
    }
    if let Ok(trace) = &evidence.trace {
        let overwritten = trace.header.total(|cpu| cpu.overwritten);
        let text = format!(
            "the latest {} of all CPUs, over {:.3} s; {} overwritten",
            count(trace.report.events, "event"),
            trace.report.seconds,
            match overwritten {
                1 => "1 older event was".to_owned(),
                older => format!("{older} older events were"),
            }
        );
        facts.push((Text("Trace"), text));
    }
    for (name, path) in [("Log", &boot.log), ("Trace file", &boot.trace)] {
        facts.extend(path.as_ref().map(|path| (Code(name), path.display().to_string())));
    }
    facts.push((Code("QEMU"), evidence.qemu.clone()));
    facts
}

/// Formats the table of CPUs. In cells with a value from the JSON result, the attribute `data-field` names the JSON
/// field.
fn cpus(boot: &Boot, evidence: &Evidence) -> String {
    let mut html = "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"CPUs\"><table class=\"cpus\"><caption><span>Shares of time \
                    are from the trace and include idling after the program\u{2019}s end. For a CPU without a kernel report the counts \
                    are from the guest\u{2019}s memory.</span></caption><thead><tr>"
        .to_owned();
    for name in
        ["CPU", "System calls", "Calls from the mix", "Calls/s", "Lines", "Ticks", "Ring 3", "Ring 0", "Idle"]
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

/// Formats the table of system calls by number and CPU. Numbers that were never called are omitted.
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

/// Formats a chart's element: heading, description, and the numbers as a table. Its role lets screen readers pass it the
/// keys that it handles.
fn figure(kind: &str, heading: &str, text: &str, table: &str) -> String {
    format!(
        "<h3>{heading}</h3>\n<figure class=\"chart\" data-chart=\"{kind}\">\n<figcaption>{text}</figcaption>\n<div \
         class=\"plot\" tabindex=\"0\" role=\"application\" aria-roledescription=\"chart\" aria-label=\"{heading}; the table below has its \
         numbers. Keys: + and - zoom, arrows and Home and End move, 0 shows all\"></div>\n\
         <output></output>\n{}</figure>\n",
        folded("The numbers as a table", table)
    )
}

/// Formats the timeline's element.
fn timeline(trace: &Survey) -> String {
    let mut rows: Vec<(u32, u64, String, String)> = Vec::new();
    trace.timeline.lanes.iter().for_each(|lane| rows.extend(latest(lane)));
    let cells = rows.into_iter().map(|(cpu, ns, what, length)| {
        vec![cpu.to_string(), format!("{:.6}", ns as f64 / 1e6), what, length]
    });
    let columns = [Number("CPU"), Number("Time, ms"), Text("Event"), Number("Duration, µs")];
    figure(
        "timeline",
        "Timeline",
        "Each CPU\u{2019}s system calls and idle times as bars; ticks, interrupts and other events as marks above them. \
         Between two calls the CPU is in ring 3. Times are since the kernel\u{2019}s start.",
        &table("Latest events of each CPU", &columns, cells),
    )
}

/// Returns the latest slices and marks of a CPU, sorted by time. Each row has CPU, time in ns, event, and duration in
/// µs.
fn latest(lane: &Lane) -> Vec<(u32, u64, String, String)> {
    let cpu = lane.cpu.cpu;
    let slices = lane.slices.iter().rev().take(LATEST).map(|slice| {
        let what = match slice.span {
            Span::Syscall(number) => syscall_name(number).unwrap_or(NO_SYSCALL),
            Span::Program => "program",
            Span::Idle => "idle",
        };
        let cut = if slice.complete { "" } else { " (cut)" };
        let length = format!("{:.3}", (slice.end - slice.begin) as f64 / 1e3);
        (cpu, slice.begin, format!("{what}{cut}"), length)
    });
    let marks = lane.marks.iter().rev().take(LATEST);
    let marks = marks.map(|mark| (cpu, mark.ns, Described(&mark.record).to_string(), String::new()));
    let mut rows: Vec<_> = slices.chain(marks).collect();
    rows.sort_by_key(|(_, ns, ..)| *ns);
    rows.split_off(rows.len().saturating_sub(LATEST))
}

/// Formats the element of the latency histograms.
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
        "System-call latency",
        "Calls in the trace by the time from the entry event to the exit event. Times include \
         the host\u{2019}s scheduling: compare them only within one boot.",
        &table("Times of system calls, in µs", &columns, trace.report.syscalls.iter().map(row)),
    )
}

/// Formats the element of calls over time.
fn rate(evidence: &Evidence) -> String {
    if evidence.clock.is_none() {
        return "<p class=\"note\">The CPUs\u{2019} counters were not found in the guest\u{2019}s memory.</p>\n".to_owned();
    }
    let speeds = evidence.samples.speeds();
    let names: Vec<_> = (0..evidence.samples.last().len()).map(|cpu| format!("CPU {cpu}")).collect();
    let columns: Vec<_> =
        std::iter::once(Number("Until, s")).chain(names.iter().map(|name| Number(name))).collect();
    let step = speeds.len().div_ceil(RATE_ROWS_MAX).max(1);
    let row = |(second, speeds): &(f64, Vec<f64>)| {
        let cells = speeds.iter().map(|speed| format!("{speed:.0}"));
        std::iter::once(format!("{second:.2}")).chain(cells).collect()
    };
    let last: Vec<_> = evidence.samples.last().iter().map(u64::to_string).collect();
    let html = figure(
        "rate",
        "System calls per second",
        "Read from the memory of the running guest. Times are the host\u{2019}s, since QEMU\u{2019}s start.",
        &table("System calls per second", &columns, speeds.iter().step_by(step).map(row)),
    );
    html + &format!(
        "<p class=\"note\">System calls of each CPU at the final poll: <span data-last-look>{}</span>.</p>\n",
        last.join(" ")
    )
}

/// Formats the element of the tick deviations.
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
        "Tick jitter",
        &format!(
            "All ticks of the run by the difference between the time since the previous tick and the period of {:.0} µs. The \
             kernel counts them in buckets whose bounds are powers of two.",
            1e6 / f64::from(clock.tick_hz.max(1))
        ),
        &table("Ticks by their deviation from the period", &columns, deviations(evidence).map(row)),
    )
}
