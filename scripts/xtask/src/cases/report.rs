//! Cases that open the report of real boots in a browser. The charts are drawn without errors, and the numbers agree
//! with the result.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Case, Finished, case, expect};
use crate::browser;
use crate::browser::Page;
use crate::logs::log_folder;

/// The reports that the cases write into the log directory.
const PASSED: &str = "report-passed.html";
const FAILED: &str = "report-failed.html";

/// Returns the cases.
pub fn cases() -> Vec<Case> {
    let row = |name: &str, options: &str, file: &str| {
        let mut case =
            case(format!("report::{name}"), &format!("{options} --report target/test-logs/{file}"), "");
        case.subcommand = "stress";
        case
    };
    vec![
        // The boot ends after a time, so that the CPUs have different counts. It makes only slow calls, so that they
        // all fit in the trace.
        row("numbers-in-a-browser", "--smp 2 --seconds 1 --mix write=100 --seed 5 --tick-hz 1000", PASSED)
            .demand(numbers),
        row(
            "failures-in-a-browser",
            "--smp 2 --calls 300 --seeds 7..9 --keep-going --cmdline 'panic_cpu=1 fail_in=syscall'",
            FAILED,
        )
        .status(3)
        .demand(failures),
    ]
}

/// Opens a report, and checks that all charts are drawn without errors. Returns the page and the number of charts.
fn open(file: &str) -> Result<(Page, usize), String> {
    let path: PathBuf = log_folder().join(file);
    let page = browser::open(&path, &path)?;
    expect(page.complaints.join("\n"), String::new(), "errors of the browser")?;
    let drawn = attribute(&page.dom, "data-charts=\"").and_then(|text| text.parse().ok()).unwrap_or(0);
    expect(page.dom.matches("<canvas").count(), drawn, "canvases, one for each chart")?;
    expect(
        browser::examine(&path, &path)?.join("\n"),
        String::new(),
        "text that is cut off or hard to read",
    )?;
    Ok((page, drawn))
}

fn numbers(finished: &Finished) -> Result<(), String> {
    let (Page { dom, .. }, drawn) = open(PASSED)?;
    expect(drawn, 4, "charts")?;
    let boot = &finished.json["boots"][0];
    let cpus = boot["cpus"].as_array().ok_or("no CPUs")?;
    expect(cpus.len(), 2, "CPUs")?;
    for cpu in cpus {
        let (_, row) = dom
            .split_once(&format!("<tr data-cpu=\"{}\">", cpu["cpu"]))
            .ok_or(format!("no row of {}", cpu["cpu"]))?;
        for field in ["syscalls", "calls", "lines", "ticks"] {
            let shown = attribute(row, &format!("data-field=\"{field}\">")).map(str::to_owned);
            expect(shown, Some(cpu[field].to_string()), field)?;
        }
    }
    // The counters read from the guest's memory must equal those that the kernel printed.
    let counted: Vec<_> = cpus.iter().map(|cpu| cpu["syscalls"].to_string()).collect();
    let read = attribute(&dom, "data-last-look=\"\">").map(str::to_owned);
    expect(read, Some(counted.join(" ")), "calls that were read from the guest's memory")?;
    charts(&dom, cpus)
}

/// Checks the data of the charts.
fn charts(dom: &str, cpus: &[Value]) -> Result<(), String> {
    let (_, rest) = dom.split_once("id=\"data\">").ok_or("no data")?;
    let json = rest.split("</script>").next().unwrap_or("");
    let data: Value = serde_json::from_str(json).map_err(|error| format!("the data is not JSON: {error}"))?;
    let data = &data[0];
    // The counters must have been sampled while the guest ran, not only at the end.
    let samples = data["rate"]["x"].as_array().map_or(0, Vec::len);
    if samples < 2 {
        return Err(format!("{samples} samples of the running guest"));
    }
    let sum =
        |values: &Value| values.as_array().map_or(0, |all| all.iter().filter_map(Value::as_u64).sum::<u64>());
    for (n, cpu) in cpus.iter().enumerate() {
        // The trace contains all calls of such a short boot. Only SYS_EXIT has no duration, because it does not return.
        let timed = sum(&data["latency"][0]["y"][n]);
        expect(Some(timed + 1), cpu["syscalls"].as_u64(), "calls in the histogram of times, and SYS_EXIT")?;
        if sum(&data["jitter"]["y"][n]) == 0 {
            return Err("no interval between two ticks was counted".to_owned());
        }
        let slices = data["timeline"]["lanes"][n]["slices"].as_array().map_or(0, Vec::len);
        if (slices as u64) < timed {
            return Err(format!("{slices} bars for {timed} calls"));
        }
    }
    Ok(())
}

fn failures(finished: &Finished) -> Result<(), String> {
    // Only the charts of the first boot are drawn, because the section of the other boot is collapsed. The first boot
    // may have panicked before its counters were sampled twice.
    let (Page { dom, .. }, drawn) = open(FAILED)?;
    if drawn == 0 {
        return Err("no chart was drawn".to_owned());
    }
    let boots = finished.json["boots"].as_array().ok_or("no boots")?;
    expect(boots.len(), 2, "boots")?;
    for boot in boots {
        let (seed, replay) = (text(&boot["seed"])?, text(&boot["replay"])?);
        finished.has(&dom, &format!("<li class=\"panic\" title=\"{seed} panic, "))?;
        finished.has(&dom, &format!("<code>{replay}</code>"))?;
        finished.has(&dom, &format!("id=\"boot-{seed}\""))?;
        // No CPU printed its counters, so these were read from the guest's memory.
        let cpus = boot["cpus"].as_array().ok_or("no CPUs")?;
        expect(cpus.len(), 2, "CPUs that had counted")?;
        for (cpu, n) in (0..).zip(cpus) {
            let calls = n["syscalls"].as_u64().filter(|calls| cpu == 0 || *calls > 300);
            let calls = calls.ok_or(format!("CPU {cpu} had counted {}", n["syscalls"]))?;
            let row = format!("<tr data-cpu=\"{cpu}\"><th scope=\"row\" class=\"n\">{cpu}</th>");
            finished.has(&dom, &format!("{row}<td class=\"n\" data-field=\"syscalls\">{calls}</td>"))?;
        }
        let trace = text(&boot["trace"])?;
        if !Path::new(trace).is_file() {
            return Err(format!("the trace {trace} does not exist"));
        }
    }
    finished.has(&dom, "CPU 1 panicked")
}

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or(format!("{value} is not a string"))
}

/// Returns the text between `before` and the next `"` or `<`.
fn attribute<'a>(html: &'a str, before: &str) -> Option<&'a str> {
    html.split_once(before)?.1.split(['"', '<']).next()
}
