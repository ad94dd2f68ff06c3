//! Cases that check the function and source line at which a program was killed or interrupted, for ELF files with and
//! without symbols and line tables.

use std::io;
use std::path::Path;
use std::process::Command;

use super::{Case, Finished, case};

/// A C program that is killed after it has printed an incomplete line. The attribute keeps the compiler from inlining
/// the function that faults.
const SOURCE: &str = "__asm__(\".globl _start\\n_start:\\n\\tcall start\\n\");
__attribute__((noinline)) void crash(volatile int *where)
{
    *where = 1;
}
void start(void)
{
    long number = 1;
    __asm__ volatile(\"syscall\" : \"+a\"(number) : \"D\"(\"begun\"), \"S\"(5L) : \"rcx\", \"r11\", \"memory\");
    crash((int *)8);
    __builtin_trap();
}
";

/// Returns the cases.
pub fn cases() -> Vec<Case> {
    let own = |name: &str, file: &str, prepare| {
        let mut case = case(format!("names::{name}"), "--smp 1", &format!("target/test-logs/{file}"));
        case.prepare = Some(prepare);
        case
    };
    let mut gdb = own("gdb", "names-gdb", |folder| compile(folder, "names-gdb", &["-g"]));
    gdb.subcommand = "gdb";
    gdb.options.extend(["--ex", "info line crash", "--ex", "kill"].map(str::to_owned));
    vec![
        case("names::embedded-program", "--smp 2", "fault ud2 1")
            .status(1)
            .shows_line("[cpu1] ringside: program killed".to_owned(), " (user/src/bin/fault.rs:")
            .complains(" (user/src/bin/fault.rs:")
            .demand(|finished| place(finished, 1, &["(user/src/bin/fault.rs:"])),
        own("own-program", "names-line", |folder| compile(folder, "names-line", &["-g"]))
            .status(1)
            .shows_line(
                "[cpu0] ringside: program killed".to_owned(),
                " in crash (target/test-logs/names-line.c:4)",
            )
            .complains(" in crash (target/test-logs/names-line.c:4), RSP")
            // The program's incomplete line precedes the kernel's line.
            .shows("[cpu0] begun\n[cpu0] ringside: program killed")
            .demand(|finished| place(finished, 0, &["crash (target/test-logs/names-line.c:4)"])),
        own("symbols-without-lines", "names-symbol", |folder| compile(folder, "names-symbol", &[]))
            .status(1)
            .complains(" in crash, RSP"),
        own("stripped-program", "names-none", |folder| compile(folder, "names-none", &["-s"]))
            .status(1)
            .hides(" in crash")
            .demand(|finished| {
                super::expect(finished.cpu(0)?["place"].clone(), serde_json::Value::Null, "place")
            }),
        gdb.shows("Line 4 of \""),
    ]
}

/// Compiles [`SOURCE`] to a program in a directory, with these further options.
fn compile(folder: &Path, name: &str, options: &[&str]) -> io::Result<()> {
    let source = folder.join(format!("{name}.c"));
    output::write(&source, SOURCE)?;
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-ffreestanding", "-static", "-nostdlib", "-no-pie", "-fno-stack-protector"])
        .args(options);
    cc.arg("-o").arg(folder.join(name)).arg(&source);
    let output = cc.output()?;
    if output.status.success() {
        Ok(())
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr)))
    }
}

/// Checks that the place in a CPU's result contains these texts.
fn place(finished: &Finished, cpu: usize, texts: &[&str]) -> Result<(), String> {
    let place = finished.cpu(cpu)?["place"].as_str().unwrap_or_default();
    texts.iter().try_for_each(|text| finished.has(place, text))
}
