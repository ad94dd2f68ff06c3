//! Cases with a screen: the kernel's text is read from a picture of the screen, character by character.
//!
//! The kernel powers the machine off after its verdict. With `-no-shutdown` QEMU then pauses the machine. The host tool
//! detects the pause, takes the picture and ends the run with status 5.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use machine::toolchain::host_cargo;
use machine::tree::root;
use serde_json::Value;

use super::{Case, Finished, case, expect};
use crate::logs::{file_name, log_folder};

/// A UART at I/O ports that the kernel does not probe.
const NO_UART: &str = "--qemu-arg=-global --qemu-arg=isa-serial.iobase=0x9f8";

/// Returns the cases. They are few, because UEFI firmware takes seconds to start.
pub fn cases() -> Vec<Case> {
    let on = |name: &str, device: &str, options: &str, program: &str| {
        let name = format!("screen::{name}");
        let options = format!(
            "--qemu-arg=-device --qemu-arg={device} --qemu-arg=-no-shutdown {options} --monitor '=>screendump {}'",
            picture(&name).display()
        );
        case(name, &options, program).status(5).complains("its run state is \"shutdown\"")
    };
    let off = "--cmdline verdict=poweroff";
    vec![
        on("table", "VGA", &format!("--boot uefi --smp 4 {off}"), "selftest").demand(|finished| {
            let rows = read("screen::table")?;
            has_lines(&rows, finished)?;
            has_table(&rows, finished)?;
            ends_with(&rows, "#40e040 pass: 4 of 4 CPUs exited with code 0, 0 warnings")
        }),
        // The screen is the only console. The verdict does not depend on the UART.
        on("no-uart", "VGA", &format!("--boot uefi --smp 2 {NO_UART} {off}"), "hello").demand(|_| {
            let rows = read("screen::no-uart")?;
            for cpu in 0..2 {
                has(&rows, &format!("#d0d0d0 [cpu{cpu}] hello from ring 3 on cpu {cpu} of 2"))?;
            }
            ends_with(&rows, "#40e040 pass: 2 of 2 CPUs exited with code 0, 0 warnings")
        }),
        // Large characters, and the colour of a failure, whose red and blue differ.
        on(
            "large",
            "VGA,xres=2560,yres=1600,vgamem_mb=32",
            &format!("--boot uefi --smp 1 {off}"),
            "fault ud",
        )
        .demand(|finished| {
            let rows = read("screen::large")?;
            has(&rows, "#d0d0d0 [cpu0] ringside: screen of 2560x1600 pixels, 160x50 characters")?;
            has_table(&rows, finished)?;
            ends_with(&rows, "#ff7050 failed: 0 of 1 CPU exited with code 0, 0 warnings")
        }),
        // The panicking CPU holds the console's lock. Here and in the next case, GRUB reports the frame buffer.
        on(
            "panic",
            "VGA",
            "--boot iso --smp 2 --cmdline 'verdict=poweroff panic_cpu=1 fail_in=console'",
            "hello",
        )
        .demand(|_| {
            let rows = read("screen::panic")?;
            for start in
                ["kernel panic on CPU 1: requested by panic_cpu=1 on the", "  called from 0xffffffff8"]
            {
                if !rows.iter().any(|row| row.starts_with(&format!("#ff7050 {start}"))) {
                    return Err(format!("no row begins with {start:?}:\n{}", rows.join("\n")));
                }
            }
            ends_with(&rows, "#ff7050 panic")
        }),
        // The text is twice as long as the screen is high.
        on("scroll", "VGA", &format!("--boot iso --smp 2 --repeat 60 {off}"), "hello").demand(|finished| {
            let rows = read("screen::scroll")?;
            has_table(&rows, finished)?;
            ends_with(&rows, "#40e040 pass: 2 of 2 CPUs exited with code 0, 0 warnings")
        }),
        case(
            "screen::no-frame-buffer",
            "--boot uefi --smp 1 --qemu-arg=-device --qemu-arg=virtio-gpu-pci",
            "hello",
        )
        .exits_on(1)
        .shows("[cpu0] ringside: warning: the screen is not used: its mode has no frame buffer"),
    ]
}

/// Returns the path of a case's picture.
fn picture(name: &str) -> PathBuf {
    let path = log_folder().join(file_name(name)).with_added_extension("ppm");
    path.strip_prefix(root()).map(Path::to_owned).unwrap_or(path)
}

/// Reads the rows of a case's picture. The crate `screen`, which reads it, is built only when this function is called,
/// because the host tool does not contain the font. The picture is removed, so that a later run that takes no picture
/// fails.
fn read(name: &str) -> Result<Vec<String>, String> {
    let path = picture(name);
    let mut command = host_cargo();
    command.args(["run", "--quiet", "--locked", "--package", "screen", "--target-dir"]);
    command.arg(root().join("target")).arg("--").arg(&path).current_dir(root()).stdin(Stdio::null());
    let output = command.output().map_err(|error| format!("cannot start cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("the screen is not readable: {}", String::from_utf8_lossy(&output.stderr)));
    }
    std::fs::remove_file(root().join(&path)).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

fn has(rows: &[String], row: &str) -> Result<(), String> {
    let is_there = rows.iter().any(|shown| shown == row);
    if is_there { Ok(()) } else { Err(format!("the screen does not show {row:?} but\n{}", rows.join("\n"))) }
}

/// Requires that this is the last row that is not blank.
fn ends_with(rows: &[String], row: &str) -> Result<(), String> {
    let last = rows.iter().rfind(|row| !row.is_empty()).map(String::as_str);
    expect(last, Some(row), "the screen's last row")
}

/// Requires each console line that is not a record, beginning with the first line that the screen can show.
fn has_lines(rows: &[String], finished: &Finished) -> Result<(), String> {
    let lines: Vec<_> = finished.stdout.lines().filter(|line| line.starts_with("[cpu")).collect();
    let shown: Vec<_> = rows.iter().filter_map(|row| row.strip_prefix("#d0d0d0 ")).collect();
    if lines.len() < 10 || shown.len() < lines.len() {
        return Err(format!("{} lines on the console, {} on the screen", lines.len(), shown.len()));
    }
    expect(&shown[..lines.len()], &lines[..], "the lines on the screen")
}

/// Requires the table of the results, with the values that the host tool has read from the serial port.
fn has_table(rows: &[String], finished: &Finished) -> Result<(), String> {
    let heading = " CPU   APIC  PROGRAM       OUTCOME   CODE     SYSCALLS     TICKS      HZ  REASON";
    let heading = format!("#d0d0d0 {heading}");
    let start = rows.iter().position(|row| *row == heading).ok_or("the screen has no table")? + 1;
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    for (cpu, row) in finished.cpus().iter().zip(&rows[start..]) {
        let (colour, row) = row.split_once(' ').unwrap_or_default();
        let is_good = cpu["outcome"] == "exited" && cpu["code"] == 0;
        expect(colour, if is_good { "#d0d0d0" } else { "#ff7050" }, "the colour")?;
        let code = if cpu["outcome"] == "exited" { text(&cpu["code"]) } else { "-".to_owned() };
        let expected = format!(
            "{:>4}  {:>5}  {:<12}  {:<8}  {code:>4}  {:>11}  {:>8}  ",
            text(&cpu["cpu"]),
            text(&cpu["apic_id"]),
            text(&cpu["program"]),
            text(&cpu["outcome"]),
            text(&cpu["syscalls"]),
            text(&cpu["ticks"]),
        );
        let rest = row.strip_prefix(&expected).ok_or(format!("{row:?} does not begin with {expected:?}"))?;
        let (rate, reason) = rest.trim_start().split_once(' ').unwrap_or((rest.trim_start(), ""));
        let rate: Option<f64> = rate.parse().ok();
        let is_near = |(a, b): (f64, f64)| (a - b).abs() < 0.006;
        if !rate.zip(cpu["tick_hz"].as_f64()).is_some_and(is_near) {
            return Err(format!("tick rate {rate:?} instead of {}", cpu["tick_hz"]));
        }
        expect(reason.trim_start(), &*text(&cpu["reason"]), "the reason")?;
    }
    expect(finished.cpus().is_empty(), false, "no CPU in the facts")
}
