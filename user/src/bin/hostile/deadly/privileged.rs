//! Privileged instructions and undefined instructions.

use super::{GP, UD, dies};
use crate::back::{Back, Value};
use crate::class::Class;
use crate::code;
use crate::maker::{Maker, scratch};
use crate::probe::{Death, Expect, MakeCode, Probe};
use crate::table::Group;

/// OF, which `into` tests.
const OF: u64 = 1 << 11;

/// A row: the name and the code of the instruction.
type Row = (&'static str, MakeCode);

/// Instructions that raise #GP regardless of the contents of the registers.
const PROTECTED_ROWS: &[Row] = &[
    ("hlt", || code!("hlt")),
    ("cli", || code!("cli")),
    ("sti", || code!("sti")),
    ("in al, imm8", || code!("in al, 0x60")),
    ("in eax, imm8", || code!("in eax, 0x60")),
    ("in al, dx", || code!("in al, dx")),
    ("in ax, dx", || code!("in ax, dx")),
    ("in eax, dx", || code!("in eax, dx")),
    ("out imm8, al", || code!("out 0xf4, al")),
    ("out imm8, eax", || code!("out 0xf4, eax")),
    ("out dx, al", || code!("out dx, al")),
    ("out dx, eax", || code!("out dx, eax")),
    ("insb", || code!("insb")),
    ("insd", || code!("insd")),
    ("outsb", || code!("outsb")),
    ("outsd", || code!("outsd")),
    ("rdmsr", || code!("rdmsr")),
    ("wrmsr", || code!("wrmsr")),
    ("rdpmc", || code!("rdpmc")),
    ("mov rax, cr0", || code!("mov rax, cr0")),
    ("mov rax, cr2", || code!("mov rax, cr2")),
    ("mov rax, cr3", || code!("mov rax, cr3")),
    ("mov rax, cr4", || code!("mov rax, cr4")),
    ("mov rax, cr8", || code!("mov rax, cr8")),
    ("mov cr0, rax", || code!("mov cr0, rax")),
    ("mov cr2, rax", || code!("mov cr2, rax")),
    ("mov cr3, rax", || code!("mov cr3, rax")),
    ("mov cr4, rax", || code!("mov cr4, rax")),
    ("mov cr8, rax", || code!("mov cr8, rax")),
    ("mov rax, dr0", || code!("mov rax, dr0")),
    ("mov rax, dr6", || code!("mov rax, dr6")),
    ("mov rax, dr7", || code!("mov rax, dr7")),
    ("mov dr0, rax", || code!("mov dr0, rax")),
    ("mov dr6, rax", || code!("mov dr6, rax")),
    ("mov dr7, rax", || code!("mov dr7, rax")),
    ("clts", || code!("clts")),
    ("invlpg", || code!("invlpg [rbx]")),
    ("lgdt", || code!("lgdt [rbx]")),
    ("lidt", || code!("lidt [rbx]")),
    ("lldt", || code!("lldt cx")),
    ("ltr", || code!("ltr cx")),
    ("lmsw", || code!("lmsw cx")),
    ("swapgs", || code!("swapgs")),
    ("sysretq", || code!("sysretq")),
];

/// Instructions that raise #UD: they do not exist, or not in ring 3 or long mode.
const UNDEFINED_ROWS: &[Row] = &[
    ("ud2", || code!("ud2")),
    ("ud1", || code!(".byte 0x0f, 0xb9, 0xc0")),
    ("mov rax, cr1", || code!(".byte 0x0f, 0x20, 0xc8")),
    ("mov rax, cr5", || code!(".byte 0x0f, 0x20, 0xe8")),
    ("stac", || code!("stac")),
    ("clac", || code!("clac")),
    ("xgetbv", || code!("xgetbv")),
    ("vaddps ymm", || code!("vaddps ymm0, ymm1, ymm2")),
    ("rdfsbase", || code!("rdfsbase rax")),
    ("rdgsbase", || code!("rdgsbase rax")),
    ("wrfsbase", || code!("wrfsbase rax")),
    ("wrgsbase", || code!("wrgsbase rax")),
    ("rsm", || code!("rsm")),
    ("vmcall", || code!("vmcall")),
    ("vmmcall", || code!("vmmcall")),
    ("push es", || code!(".byte 0x06")),
    ("pop ds", || code!(".byte 0x1f")),
    ("far jmp with an immediate", || code!(".byte 0xea, 0, 0, 0, 0, 0x23, 0")),
    ("far call with an immediate", || code!(".byte 0x9a, 0, 0, 0, 0, 0x23, 0")),
    ("les", || code!(".byte 0xc4, 0x03")),
    ("lock mov", || code!(".byte 0xf0, 0x48, 0x89, 0xc0")),
    ("lock nop", || code!(".byte 0xf0, 0x90")),
    ("an undefined byte of group 4", || code!(".byte 0xfe, 0xff")),
];

/// Instructions for which QEMU's TCG deviates, with the exception that the manuals specify. TCG executes the first four
/// in ring 3 and long mode. For the last it checks the privilege level before it checks whether the instruction exists.
const LAX_ROWS: &[(&str, MakeCode, (u64, u64))] = &[
    ("invd", || code!("invd"), GP),
    ("wbinvd", || code!("wbinvd"), GP),
    ("into", || code!(".byte 0xce"), UD),
    ("aam", || code!(".byte 0xd4, 0x0a"), UD),
    ("xsetbv", || code!("xsetbv"), UD),
];

/// Instructions that raise #GP with UMIP, and return their values without it.
const PREVENTED_ROWS: &[Row] = &[
    ("sgdt", || code!("sgdt [rbx]")),
    ("sidt", || code!("sidt [rbx]")),
    ("sldt", || code!("sldt eax")),
    ("str", || code!("str eax")),
    ("smsw", || code!("smsw eax")),
];

/// The 32-bit system-call instructions. Intel CPUs have them in long mode, where Ringside leaves them disabled. AMD
/// CPUs do not have them in long mode.
const BY_VENDOR_ROWS: &[Row] = &[
    ("sysenter", || code!("sysenter")),
    ("sysexit", || code!("sysexit")),
    ("sysexitq", || code!(".byte 0x48, 0x0f, 0x35")),
];

/// The instructions that raise #GP.
pub const PROTECTED: Group = Group {
    rows: PROTECTED_ROWS.len() as u64,
    make: |maker, row| {
        let (name, code) = PROTECTED_ROWS[row as usize];
        with_memory(dies(maker, Class::Privileged, name, 0, code(), GP))
    },
};

/// The instructions that raise #UD.
pub const UNDEFINED_HERE: Group = Group {
    rows: UNDEFINED_ROWS.len() as u64,
    make: |maker, row| {
        let (name, code) = UNDEFINED_ROWS[row as usize];
        with_memory(dies(maker, Class::Privileged, name, 0, code(), UD))
    },
};

/// The instructions for which emulators deviate. Either outcome is allowed.
pub const LAX: Group = Group {
    rows: LAX_ROWS.len() as u64,
    make: |maker, row| {
        let (name, code, fault) = LAX_ROWS[row as usize];
        let mut probe = dies(maker, Class::Privileged, name, 0, code(), fault);
        // OF is the only reason for an emulator to raise an exception.
        probe.state.rflags &= !OF;
        let death = Death::new(fault.0, fault.1, probe.state.rip);
        probe.expect = match name {
            "xsetbv" => Expect::Dies(Death { or: GP, ..death }),
            _ => Expect::DiesOrNot(death),
        };
        probe
    },
};

/// The instructions that depend on UMIP.
pub const PREVENTED: Group = Group {
    rows: PREVENTED_ROWS.len() as u64,
    make: |maker, row| {
        let (name, code) = PREVENTED_ROWS[row as usize];
        let mut probe = with_memory(dies(maker, Class::Privileged, name, 0, code(), GP));
        if !maker.features.umip {
            let back = Back::unchanged(probe.state.rflags);
            probe.expect = Expect::Back(Back { rax: Value::Any, ..back });
        }
        probe
    },
};

/// The instructions that depend on the vendor.
pub const BY_VENDOR: Group = Group {
    rows: BY_VENDOR_ROWS.len() as u64,
    make: |maker: &mut Maker, row| {
        let (name, code) = BY_VENDOR_ROWS[row as usize];
        let fault = if maker.features.intel { GP } else { UD };
        dies(maker, Class::Privileged, name, 0, code(), fault)
    },
};

/// Makes memory operands valid, so that the missing privilege is the only error.
fn with_memory(mut probe: Probe) -> Probe {
    let memory = scratch() as u64;
    (probe.state.rbx, probe.state.rdi, probe.state.rsi) = (memory, memory, memory);
    probe.state.rflags &= !(1 << 10);
    // rcx and rdx hold numbers that exist whether the instruction uses them as a port, an MSR or a selector.
    (probe.state.rcx, probe.state.rdx) = (0x1b, 0x80);
    probe
}
