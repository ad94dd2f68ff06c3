//! Cases with UARTs that accept no bytes: no CPU waits for them without a time limit, and dropped output is reported.

use std::path::Path;

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
        // As above, but without an injected fault: QEMU's UART is at other ports.
        at_ports("none", NOWHERE, None)
            .status(5)
            .complains("no record from the kernel arrived: the console, COM1, is missing"),
        at_ports("spcr-com2", 0x2f8, Some("spcr-com2")).exits_on(2).shows(
            "[cpu0] ringside: the console is the UART at port 0x2f8, as the firmware's table SPCR says",
        ),
        // Without a screen, the console stays where it is.
        at_ports("spcr-disabled", 0x3f8, Some("spcr-disabled")).exits_on(2),
        at_ports("spcr-nowhere", 0x3f8, Some("spcr-nowhere"))
            .exits_on(2)
            .shows("warning: the firmware's table SPCR names a UART at port 0x9f8, but none responds"),
        at_ports("spcr-memory", 0x3f8, Some("spcr-memory"))
            .exits_on(2)
            .shows("warning: the firmware's table SPCR names a UART that is not a 16550 at I/O ports"),
        silent("panic-while-stuck", "uart_fault=stuck panic_cpu=1 fail_in=syscall").status(3),
    ]
}

/// I/O ports without a device that the kernel does not probe by itself.
const NOWHERE: u16 = 0x9f8;

/// Creates a case whose UART is at these ports. If a table is named, the firmware has that SPCR.
fn at_ports(name: &str, base: u16, table: Option<&str>) -> Case {
    let mut options = format!("--smp 2 --qemu-arg=-global --qemu-arg=isa-serial.iobase={base:#x}");
    if let Some(table) = table {
        options += &format!(" --qemu-arg=-acpitable --qemu-arg=file=target/test-logs/{table}.aml");
    }
    let mut case = case(format!("uart::{name}"), &options, "hello");
    case.prepare = Some(write_tables);
    case
}

/// Writes the tables of all cases, because a case's preparation function has no parameter that selects one table.
fn write_tables(folder: &Path) -> std::io::Result<()> {
    /// The values of the address space.
    const MEMORY: u8 = 0;
    const PORTS: u8 = 1;
    for (name, space, address) in [
        ("spcr-com2", PORTS, 0x2f8),
        ("spcr-disabled", PORTS, 0),
        ("spcr-nowhere", PORTS, NOWHERE.into()),
        ("spcr-memory", MEMORY, 0xfe03_4000),
    ] {
        output::write(folder.join(format!("{name}.aml")), spcr(space, address))?;
    }
    Ok(())
}

/// Returns an SPCR of revision 2 for a 16550 at this address, at 115,200 baud.
fn spcr(space: u8, address: u64) -> Vec<u8> {
    let mut table = vec![0; 80];
    table[..4].copy_from_slice(b"SPCR");
    table[4] = 80;
    table[8] = 2;
    table[10..16].copy_from_slice(b"RINGSD");
    table[40..44].copy_from_slice(&[space, 8, 0, 1]);
    table[44..52].copy_from_slice(&address.to_le_bytes());
    table[58] = 7;
    // The PCI device and vendor of a device that is not on PCI.
    table[64..68].fill(0xff);
    // All bytes add up to 0.
    table[9] = table.iter().fold(0, |sum: u8, byte| sum.wrapping_sub(*byte));
    table
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
