//! Cases with UARTs that accept no bytes: no CPU waits for them without a time limit, and dropped output is reported.

use super::{Case, Finished, case};

/// Returns the cases.
pub fn cases() -> Vec<Case> {
    let fault = |name: &str, options: &str| {
        case(format!("uart::{name}"), &format!("--smp 3 --cmdline '{options}'"), "hello")
    };
    let silent = |name: &str, options: &str| {
        fault(name, options).complains("no record from the kernel arrived: the console, COM1, is missing")
    };
    let while_stuck = fault("stuck-in-ring-3", "uart_fault=stuck-in-ring-3").status(5).exits_on(3);
    let while_stuck = (0..3).fold(while_stuck, |case, cpu| {
        case.shows(format!("[cpu{cpu}] ringside: warning: {HELLO} bytes of output were dropped"))
            .complains(format!("{HELLO} bytes of CPU {cpu}'s output were dropped"))
    });
    vec![
        while_stuck.demand(every_dropped_byte_is_counted).demand(ticks_arrive_during_the_wait),
        silent("stuck", "uart_fault=stuck").status(5),
        silent("absent", "uart_fault=absent").status(5),
        silent("panic-while-stuck", "uart_fault=stuck panic_cpu=1 fail_in=syscall").status(3),
    ]
}

/// The length of the line that `hello` prints on a CPU, including the prefix and the newline.
const HELLO: usize = "[cpu0] hello from ring 3 on cpu 0 of 3\n".len();

/// The minimum number of ticks on a CPU that waits. The timeout takes at least 400 ticks, but a busy host delivers
/// fewer. A CPU that waited with interrupts off would take about 30 ticks, all before and after the wait.
const TICKS: u64 = 100;

/// Checks that all CPUs take their ticks. One of the three waits for the UART, and the others wait for that CPU.
fn ticks_arrive_during_the_wait(finished: &Finished) -> Result<(), String> {
    finished.cpus().iter().try_for_each(|cpu| match cpu["ticks"].as_u64() {
        Some(TICKS..) => Ok(()),
        ticks => Err(format!("CPU {} has {ticks:?} ticks, at least {TICKS} are expected", cpu["cpu"])),
    })
}

fn every_dropped_byte_is_counted(finished: &Finished) -> Result<(), String> {
    let dropped: Vec<_> = finished.cpus().iter().map(|cpu| cpu["dropped"].as_u64()).collect();
    super::expect(dropped, vec![Some(HELLO as u64); 3], "dropped bytes")
}
