//! Instructions that refer to kernel tables and kernel memory and that ring 3 may execute, because they reveal nothing
//! about the kernel.

use crate::back::{Back, Value};
use crate::class::Class;
use crate::code;
use crate::maker::{KERNEL, Maker, PHYSICAL, SELECTORS as ALL};
use crate::probe::{Expect, MakeCode, Probe};
use crate::state::DATA;
use crate::table::Group;

/// ZF; set if ring 3 may access the selector.
const ZF: u64 = 1 << 6;

/// Returns whether an instruction accepts this selector.
type Accepts = fn(u64) -> bool;

/// The four instructions that query a selector, each with the selectors that it accepts.
const QUERIES: [(&str, MakeCode, Accepts); 4] = [
    ("lar", || code!("lar rax, rbx"), |selector| is_user_data(selector) || is_user_code(selector)),
    ("lsl", || code!("lsl rax, rbx"), |selector| is_user_data(selector) || is_user_code(selector)),
    ("verr", || code!("verr bx"), |selector| is_user_data(selector) || is_user_code(selector)),
    ("verw", || code!("verw bx"), is_user_data),
];

fn is_user_data(selector: u64) -> bool {
    selector & !3 == 0x18
}

fn is_user_code(selector: u64) -> bool {
    selector & !3 == 0x20
}

/// Every query of every selector.
pub const SELECTORS: Group = Group {
    rows: (QUERIES.len() * ALL.len()) as u64,
    make: |maker, row| {
        let (name, code, yes) = QUERIES[row as usize / ALL.len()];
        let selector = ALL[row as usize % ALL.len()];
        let mut probe = maker.probe(Class::Harmless, name, selector, code());
        probe.state.rbx = selector;
        let mut back = Back::unchanged(probe.state.rflags & !ZF);
        if yes(selector) {
            back.rflags |= ZF;
            // rax holds the access rights or the limit of a ring-3 segment.
            back.rax = if matches!(name, "lar" | "lsl") { Value::Any } else { Value::Kept };
        }
        Probe { expect: Expect::Back(back), ..probe }
    },
};

/// Permitted loads, each followed by a system call while the register holds the selector.
const LOAD: [(&str, MakeCode); 4] = [
    ("mov ds, then system call", || code!("mov ds, ebx", "syscall")),
    ("mov es, then system call", || code!("mov es, ebx", "syscall")),
    ("mov fs, then system call", || code!("mov fs, ebx", "syscall")),
    ("mov gs, then system call", || code!("mov gs, ebx", "syscall")),
];

/// Selectors that DS, ES, FS and GS accept: null selectors and ring 3's own.
const LOADABLE: [u64; 8] = [0, 1, 2, 3, 0x18, 0x1b, 0x20, 0x23];

/// Every permitted load of every such selector.
pub const LOADS: Group = Group {
    rows: (LOAD.len() * LOADABLE.len()) as u64,
    make: |maker, row| {
        let (name, code) = LOAD[row as usize / LOADABLE.len()];
        let selector = LOADABLE[row as usize % LOADABLE.len()];
        let mut probe = maker.probe(Class::Harmless, name, selector, code());
        (probe.state.rax, probe.state.rbx) = (kernel_abi::syscall::SYS_NULL, selector);
        // `mov` to a segment register and `syscall` are two bytes long each.
        let mut back = Back::call(code(), probe.state.rflags, Value::Is(0));
        back.rcx = Value::Is(crate::probe::address(code()) + 4);
        Probe { expect: Expect::Back(back), ..probe }
    },
};

/// Adds the registers that the instruction may change to the expectation.
type Changes = fn(Back) -> Back;

/// Other instructions, with the registers that they change.
const OTHER: [(&str, MakeCode, Changes); 6] = [
    ("mov ss", || code!("mov ss, ebx"), |back| back),
    ("prefetch", || code!("prefetcht0 [rbx]"), |back| back),
    ("nop [rbx]", || code!("nop dword ptr [rbx]"), |back| back),
    ("pause", || code!("pause"), |back| back),
    (
        "cpuid",
        || code!("cpuid"),
        |back| Back { rax: Value::Any, rbx: Value::Any, rcx: Value::Any, rdx: Value::Any, ..back },
    ),
    ("rdtsc", || code!("rdtsc"), |back| Back { rax: Value::Any, rdx: Value::Any, ..back }),
];

/// Operands in rbx, for the instructions that use it.
const OPERANDS: [u64; 4] = [0, PHYSICAL, KERNEL, 1 << 47];

/// Every instruction with every operand.
pub const OTHERS: Group =
    Group { rows: (OTHER.len() * OPERANDS.len()) as u64, make: |maker, row| other(maker, row as usize) };

fn other(maker: &mut Maker, row: usize) -> Probe {
    let (name, code, changes) = OTHER[row / OPERANDS.len()];
    let operand = if name == "mov ss" { DATA } else { OPERANDS[row % OPERANDS.len()] };
    let mut probe = maker.probe(Class::Harmless, name, operand, code());
    probe.state.rbx = operand;
    // The subleaf of `cpuid`.
    probe.state.rcx = 0;
    Probe { expect: Expect::Back(changes(Back::unchanged(probe.state.rflags))), ..probe }
}
