//! Exceptions, single steps and exits, each with invalid stack pointers and unusual flags.

use kernel_abi::syscall::SYS_EXIT;
use rand_xoshiro::rand_core::Rng;

use super::{GP, UD, dies, page_error, pf};
use crate::class::Class;
use crate::code;
use crate::maker::{PENDING, STACK_POINTERS, stack_pointer};
use crate::probe::{
    BREAKPOINT, DEBUG, DIVIDE, Death, Expect, MakeCode, PAGE, STACK, X87, address, back_address,
};
use crate::survived::FLAG_SAMPLES;
use crate::table::Group;

/// TF, the single-step flag.
const TF: u64 = 1 << 8;

/// The exceptions that an instruction can raise, with the distance from the start of the instruction to the reported
/// rip.
const FAULT: [(&str, MakeCode, (u64, u64), u64); 8] = [
    ("div by zero", || code!("div ecx"), (DIVIDE, 0), 0),
    ("ud2", || code!("ud2"), UD, 0),
    ("int3", || code!("int3"), (BREAKPOINT, 0), 1),
    ("int1", || code!(".byte 0xf1"), (DEBUG, 0), 1),
    ("hlt", || code!("hlt"), GP, 0),
    ("read of null", || code!("mov eax, [rcx]"), pf(page_error::READ), 0),
    ("jump to null", || code!("jmp rcx"), pf(page_error::EXECUTE), 0),
    ("x87 exception", || code!("fwait"), (X87, 0), 0),
];
const FAULT_KINDS: u64 = FAULT.len() as u64;
const FLAG_SAMPLES_LEN: u64 = FLAG_SAMPLES.len() as u64;

/// Every exception with every stack pointer and random flags.
pub const FAULTS: Group = Group {
    rows: FAULT_KINDS * STACK_POINTERS,
    make: |maker, row| {
        let (name, code, fault, after) = FAULT[(row % FAULT_KINDS) as usize];
        let mut probe = dies(maker, Class::Faults, name, 0, code(), fault);
        probe.state.rcx = 0;
        probe.state.rsp = stack_pointer(maker.cpu, row / FAULT_KINDS);
        probe.state.rflags = FLAG_SAMPLES[(maker.random.next_u64() % FLAG_SAMPLES_LEN) as usize];
        if fault.0 == X87 {
            (probe.state.fpu.x87_control, probe.state.fpu.x87_status) = PENDING;
        }
        let at = if name == "jump to null" { 0 } else { address(code()) + after };
        probe.expect = Expect::Dies(Death::new(fault.0, fault.1, at));
        probe
    },
};

/// Instructions to single-step, with the distance to the rip that #DB reports. A `syscall` returns with TF still set.
/// #DB follows directly after the call or one instruction later, depending on the instruction with which the kernel
/// returns.
const STEP: [(&str, MakeCode, u64); 4] = [
    ("step over nop", || code!("nop"), 1),
    ("step over syscall", || code!("syscall"), 2),
    ("step over pause", || code!("pause"), 2),
    ("step over mov", || code!("mov rax, rbx"), 3),
];

/// Single steps with every stack pointer.
pub const STEPS: Group = Group {
    rows: STEP.len() as u64 * STACK_POINTERS,
    make: |maker, row| {
        let (name, code, length) = STEP[row as usize % STEP.len()];
        let mut probe = dies(maker, Class::Faults, name, 0, code(), (DEBUG, 0));
        // An unassigned system-call number.
        probe.state.rax = u64::MAX;
        probe.state.rsp = stack_pointer(maker.cpu, row / STEP.len() as u64);
        probe.state.rflags = FLAG_SAMPLES[(maker.random.next_u64() % FLAG_SAMPLES_LEN) as usize] | TF;
        let after = address(code()) + length;
        let or_rip = if name == "step over syscall" { back_address() } else { after };
        probe.expect = Expect::Dies(Death { or_rip, ..Death::new(DEBUG, 0, after) });
        probe
    },
};

/// Accesses to an invalid stack, with the error code of the page fault and the distance from rsp to the faulting
/// address.
const ON_STACK: [(&str, MakeCode, u64, u64); 4] = [
    ("push", || code!("push rax"), page_error::WRITE, 8),
    ("call", || code!("call {back}"), page_error::WRITE, 8),
    ("pop", || code!("pop rax"), page_error::READ, 0),
    ("ret", || code!("ret"), page_error::READ, 0),
];

/// Indices of [`stack_pointer`] at which ring 3 can access nothing, above or below.
const BAD: [u64; 20] = [0, 2, 3, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25];

/// Pushes and pops on the stacks in [`BAD`].
pub const STACK_ACCESS: Group = Group {
    rows: (ON_STACK.len() * BAD.len()) as u64,
    make: |maker, row| {
        let (name, code, error, below) = ON_STACK[row as usize % ON_STACK.len()];
        let rsp = stack_pointer(maker.cpu, BAD[row as usize / ON_STACK.len()]);
        let at = rsp.wrapping_sub(below);
        let mut probe = dies(maker, Class::Faults, name, rsp, code(), pf(error));
        probe.state.rsp = rsp;
        let death = Death::new(PAGE, error, address(code()));
        // The outcome must not show ring 3 whether a kernel address is mapped.
        let is_canonical = at.cast_signed() << 16 >> 16 == at.cast_signed();
        probe.expect = Expect::Dies(if is_canonical {
            let if_present = if at >> 63 != 0 { error | page_error::PRESENT } else { error };
            Death { or: (PAGE, if_present), cr2: at, ..death }
        } else {
            // QEMU reports #GP, as for other data accesses, instead of #SS.
            Death { vector: STACK, error: 0, or: GP, ..death }
        });
        probe
    },
};

/// `SYS_EXIT` with every stack pointer, unusual flags, and an exit code of which only the low 32 bits count.
pub const EXITS: Group = Group {
    rows: STACK_POINTERS * FLAG_SAMPLES_LEN,
    make: |maker, row| {
        let mut probe = maker.probe(Class::Exits, "exit", 0, code!("syscall"));
        (probe.state.rax, probe.state.rdi) = (SYS_EXIT, maker.random.next_u64() << 32);
        probe.state.rsp = stack_pointer(maker.cpu, row % STACK_POINTERS);
        probe.state.rflags = FLAG_SAMPLES[(row / STACK_POINTERS) as usize];
        probe.expect = Expect::Exits(0);
        probe
    },
};
