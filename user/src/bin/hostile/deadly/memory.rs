//! Accesses to memory that is unmapped, belongs to the kernel, or does not permit them.

use kernel_abi::layout::{PAGE_SIZE, PROGRAM_BASE, SHARED_PAGE, STACK_SIZE, STACK_TOP, USER_END, USER_START};

use super::page_error::{EXECUTE, PRESENT, READ, WRITE};
use super::{GP, about, dies, pf, random};
use crate::class::Class;
use crate::code;
use crate::console;
use crate::maker::{KERNEL, Maker, PHYSICAL, scratch};
use crate::probe::{Code, Death, Expect, MakeCode, PAGE, Probe, address};
use crate::table::Group;

/// The kinds of access to the address in rbx, each with the error code of the page fault if nothing is mapped there.
const ACCESS: [(&str, MakeCode, u64); 5] = [
    ("read", || code!("mov al, [rbx]"), READ),
    ("write", || code!("mov [rbx], al"), WRITE),
    ("exchange", || code!("lock xadd [rbx], al"), WRITE),
    ("jump", || code!("jmp rbx"), EXECUTE),
    ("call", || code!("call rbx"), EXECUTE),
];
const KINDS: u64 = ACCESS.len() as u64;

/// Returns a probe that makes one of these accesses. `present` says whether the page is mapped.
fn access(maker: &mut Maker, kind: u64, at: u64, present: bool) -> Probe {
    let (name, code, error) = ACCESS[kind as usize];
    let error = if present { error | PRESENT } else { error };
    let mut probe = about(dies(maker, Class::Memory, name, at, code(), pf(error)), at);
    probe.state.rbx = at;
    if let Expect::Dies(death) = &mut probe.expect {
        if error & EXECUTE == EXECUTE {
            // The jump itself succeeds; the instruction fetch at the target then faults.
            (death.rip, death.or_rip) = (at, at);
        }
        if name == "exchange" {
            // On a machine with one CPU, QEMU reads before it writes.
            death.either = READ ^ WRITE;
        }
    }
    probe
}

/// Unmapped addresses of the user half. The last ones are in the page below the non-canonical range, where a `syscall`
/// in the last bytes would return to a non-canonical address.
const UNMAPPED_ADDRESSES: [u64; 15] = [
    0,
    1,
    PAGE_SIZE,
    USER_START - 1,
    USER_START,
    PROGRAM_BASE - 1,
    SHARED_PAGE - 1,
    SHARED_PAGE + PAGE_SIZE,
    STACK_TOP - STACK_SIZE - 1,
    STACK_TOP,
    USER_END - 1,
    USER_END,
    USER_END + PAGE_SIZE / 2,
    (1 << 47) - 2,
    (1 << 47) - 1,
];

/// Accesses to unmapped memory.
pub const UNMAPPED: Group = Group {
    rows: UNMAPPED_ADDRESSES.len() as u64 * KINDS,
    make: |maker, row| access(maker, row % KINDS, UNMAPPED_ADDRESSES[(row / KINDS) as usize], false),
};

/// Kernel addresses: physical memory, a CPU's stacks and their guard pages, tables, the local APIC, the kernel image,
/// and the last byte.
const KERNEL_HALF: [u64; 10] = [
    PHYSICAL,
    PHYSICAL + 0x10_0000,
    0xffff_d000_0000_0000,
    0xffff_d000_0000_fff8,
    0xffff_d000_0003_8000,
    0xffff_d800_0000_0000,
    0xffff_e000_0000_0000,
    KERNEL,
    KERNEL + 0x10_1000,
    u64::MAX,
];

/// Accesses to the kernel half. The outcome must not show ring 3 whether an address is mapped.
pub const KERNEL_ACCESSES: Group = Group {
    rows: KERNEL_HALF.len() as u64 * KINDS,
    make: |maker, row| {
        let mut probe = access(maker, row % KINDS, KERNEL_HALF[(row / KINDS) as usize], false);
        if let Expect::Dies(death) = &mut probe.expect {
            death.either |= PRESENT;
        }
        probe
    },
};

/// Non-canonical addresses.
const HOLE: [u64; 4] = [1 << 47, 1 << 63, 0xffff_7fff_ffff_ffff, 0x1234_5678_9abc_def0];

/// Reads and writes of non-canonical addresses.
pub const NOT_CANONICAL: Group = Group {
    rows: HOLE.len() as u64 * 3,
    make: |maker, row| {
        let (at, (name, code, _)) = (HOLE[(row / 3) as usize], ACCESS[(row % 3) as usize]);
        let mut probe = dies(maker, Class::Memory, name, at, code(), GP);
        probe.state.rbx = at;
        probe
    },
};

/// Accesses to the program's own memory that its permissions forbid: writes to read-only pages, jumps to data.
pub const NOT_PERMITTED: Group = Group {
    rows: 9,
    make: |maker, row| {
        const WRITES: u64 = 1;
        const JUMPS: u64 = 3;
        let [constant, writable, bottom, top] = console::sources();
        let code = address(ACCESS[0].1());
        let (kind, at) = match row {
            0 => (WRITES, code),
            1 => (WRITES, constant),
            2 => (WRITES, PROGRAM_BASE),
            3 => (WRITES, random::start()),
            4 => (JUMPS, writable),
            5 => (JUMPS, constant),
            6 => (JUMPS, bottom),
            7 => (JUMPS, top),
            _ => (JUMPS, SHARED_PAGE),
        };
        access(maker, kind, at, true)
    },
};

/// Accesses at the end of a page: a read and a write whose second part faults, and a `syscall` as the last
/// instruction of the last code page.
pub const ACROSS: Group = Group {
    rows: 4,
    make: |maker, row| {
        let end = SHARED_PAGE + PAGE_SIZE;
        match row {
            0 => across(maker, "read across the end of a page", code!("mov rax, [rbx]"), READ, end),
            1 => across(maker, "write across the end of a page", code!("mov [rbx], rax"), WRITE, end),
            _ => {
                // The `syscall` is at the end of `random`, and no instruction follows it.
                let end = random::end();
                let mut probe =
                    maker.probe(Class::Memory, "syscall at the end of all code", end, random::CODE_AT_END);
                probe.state.rip = end - 2;
                probe.state.rbx = scratch() as u64;
                // The next page holds data.
                let death = Death::new(PAGE, EXECUTE | PRESENT, end);
                probe.expect = Expect::Dies(Death { cr2: end, ..death });
                probe
            }
        }
    },
};

fn across(maker: &mut Maker, name: &'static str, code: Code, error: u64, end: u64) -> Probe {
    let mut probe = about(dies(maker, Class::Memory, name, end - 4, code, pf(error)), end);
    probe.state.rbx = end - 4;
    probe
}
