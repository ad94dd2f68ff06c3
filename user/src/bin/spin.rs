//! Loops forever in ring 3 without system calls, on every CPU or on one CPU: [CPU].
//!
//! If CPU is given, the copies on the other CPUs exit. A copy that loops leaves its line of output incomplete.
#![cfg_attr(target_os = "none", no_std, no_main)]

use core::hint::spin_loop;
use core::sync::atomic::{AtomicU64, Ordering};

use user::{ExitCode, args, print, println, shared_page, sys};

user::program!(run);

/// If only one CPU spins: the number of ticks that it waits before it prints its line, so that the other CPUs have
/// completed `SYS_EXIT`.
const TICKS: u64 = 3;

fn run() -> ExitCode {
    let cpu = sys::get_cpu();
    let alone = match args().nth(1) {
        None => None,
        Some(word) => match args::number(word).filter(|&number| number < sys::cpu_count()) {
            Some(number) => Some(number),
            None => {
                println!("usage: spin [CPU]");
                return ExitCode::USAGE;
            }
        },
    };
    let ready = shared_page().word(0);
    println!("spinning on cpu {cpu}");
    if alone.is_some_and(|alone| alone != cpu) {
        ready.fetch_add(1, Ordering::Relaxed);
        return ExitCode::SUCCESS;
    }
    if alone.is_some() {
        wait_for_the_others(ready);
        let end = sys::ticks() + TICKS;
        while sys::ticks() < end {
            spin_loop();
        }
        println!("spin: the others have exited");
    } else if cpu + 1 == sys::cpu_count() {
        wait_for_the_others(ready);
        println!("spin: all others loop");
    }
    print!("spin: cpu {cpu} loops ... ");
    ready.fetch_add(1, Ordering::Relaxed);
    loop {
        spin_loop();
    }
}

fn wait_for_the_others(ready: &AtomicU64) {
    while ready.load(Ordering::Relaxed) + 1 < sys::cpu_count() {
        spin_loop();
    }
}
