//! The ways into the kernel and out of it, each an order of instructions; and those of which no emulator here can be
//! made to take one step.

use std::collections::BTreeSet;

use iced_x86::{FlowControl, Instruction, Mnemonic, Register};

use super::code::Code;
use super::error::InjectError;

/// A way through the road's functions, from the first instruction to the one that leaves.
#[derive(Debug, PartialEq, Eq)]
pub struct Path {
    /// What the user calls it.
    pub name: &'static str,
    /// The function that it begins in.
    pub entry: &'static str,
    /// Whether each conditional branch on the way is taken.
    pub taken: &'static [bool],
    /// It goes no further than its call into Rust, which ends the program or the run.
    pub dies: bool,
}

const fn path(name: &'static str, entry: &'static str, taken: &'static [bool]) -> Path {
    Path { name, entry, taken, dies: false }
}

const fn last(name: &'static str, entry: &'static str, taken: &'static [bool]) -> Path {
    Path { name, entry, taken, dies: true }
}

/// Where a way from ring 3 goes in `trap_common`, and where two from ring 0 go.
const FROM_RING_3: &[bool] = &[false];
const FROM_RING_0: &[bool] = &[true, true];
const FROM_THE_IRETQ: &[bool] = &[true, false];

/// A program's start.
pub const START: Path = path("start", "enter_ring3", &[]);
/// A system call that `sysretq` ends.
pub const SYSRET: Path = path("sysret", "syscall_entry", &[false]);
/// One that `iretq` ends.
pub const IRET: Path = path("iret", "syscall_entry", &[true]);
/// An NMI's own way, with another one waiting.
pub const NMI: Path = path("nmi", "vector_02", &[]);
/// A debug exception in ring 0.
pub const DEBUG_RING_0: Path = path("debug-ring-0", "vector_01", &[]);
/// One in ring 3.
pub const DEBUG: Path = last("debug", "vector_01", &[]);
/// A copy out of ring 3's memory.
pub const COPY: Path = path("copy", "copy_bytes", &[]);
/// A fault of such a copy.
pub const COPY_FAULT: Path = path("copy-fault", "vector_0e", FROM_RING_0);
/// A tick that strikes ring 3.
pub const TICK: Path = path("tick", "vector_20", FROM_RING_3);
/// A tick that strikes the idle loop.
pub const TICK_IDLE: Path = path("tick-idle", "vector_20", FROM_RING_0);
/// Another CPU's wake-up call.
pub const WAKE: Path = path("wake", "vector_fd", FROM_RING_0);
/// A program's end.
pub const END: Path = path("end", "restart_on", &[]);
/// The idle loop's halt.
pub const IDLE: Path = path("idle", "halt", &[]);
/// A machine check.
pub const MACHINE_CHECK: Path = last("machine-check", "vector_12", &[]);
/// A double fault.
pub const DOUBLE_FAULT: Path = last("double-fault", "vector_08", &[]);
/// A fault of the `iretq` to ring 3.
pub const IRET_FAULT: Path = last("iret-fault", "vector_0d", FROM_THE_IRETQ);

/// Exceptions that end a program, each with the ending of `paths` that raises it, and what the kernel then says.
pub const KILLS: [(Path, &str, &str); 7] = [
    (last("divide", "vector_00", FROM_RING_3), "div0", "#DE"),
    (last("breakpoint", "vector_03", FROM_RING_3), "int3", "#BP"),
    (last("overflow", "vector_04", FROM_RING_3), "int4", "#OF"),
    (last("opcode", "vector_06", FROM_RING_3), "ud2", "#UD"),
    (last("protection", "vector_0d", FROM_RING_3), "gp", "#GP"),
    (last("page-fault", "vector_0e", FROM_RING_3), "null", "#PF"),
    (last("x87", "vector_10", FROM_RING_3), "x87", "#MF"),
];

/// The ways of the boot that goes most of them, in its order.
pub const TOUR: [&Path; 13] = [
    &START,
    &NMI,
    &SYSRET,
    &DEBUG_RING_0,
    &COPY,
    &COPY_FAULT,
    &TICK,
    &IRET,
    &DEBUG,
    &END,
    &IDLE,
    &TICK_IDLE,
    &WAKE,
];

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Path> {
    let others = [&IRET_FAULT, &MACHINE_CHECK, &DOUBLE_FAULT];
    TOUR.into_iter().chain(others).chain(KILLS.iter().map(|(path, ..)| path))
}

/// Stack pointers that `paths` makes system calls with: the instructions in front of which rsp is ring 3's are struck
/// once more with each.
pub const HOSTILE: [(&str, u64); 3] =
    [("rsp-zero", 0), ("rsp-kernel", 0xffff_8000_0010_0000), ("rsp-noncanonical", 0x0000_8000_0000_0000)];
/// Likewise, with the top of the stack that the CPU's NMIs have.
pub const HOSTILE_NMI_STACK: &str = "rsp-nmi-stack";

/// Stubs that nothing here can enter, and why.
pub const UNREACHABLE: [(&str, &str); 23] = [
    ("vector_05", "#BR: `bound` does not exist in 64-bit mode"),
    ("vector_07", "#NM: CR0.TS and CR0.EM are never set"),
    ("vector_09", "reserved: no CPU with an FPU inside raises it"),
    ("vector_0a", "#TS: there is no task gate, and the TSS is whole"),
    ("vector_0b", "#NP: every descriptor that ring 3 can name is present"),
    (
        "vector_0c",
        "#SS: QEMU raises #GP for a stack address that is not canonical, and no segment has a limit",
    ),
    ("vector_0f", "reserved"),
    ("vector_11", "#AC: QEMU's TCG does not check alignment"),
    ("vector_13", "#XM: QEMU's TCG raises no unmasked SSE exception"),
    ("vector_14", "#VE: only in a virtual machine's guest"),
    ("vector_15", "#CP: QEMU's TCG has no shadow stacks, and CR4.CET is clear"),
    ("vector_16", "reserved"),
    ("vector_17", "reserved"),
    ("vector_18", "reserved"),
    ("vector_19", "reserved"),
    ("vector_1a", "reserved"),
    ("vector_1b", "reserved"),
    ("vector_1c", "#HV: only in a virtual machine's guest"),
    ("vector_1d", "#VC: only in a virtual machine's guest"),
    ("vector_1e", "#SX: only in a virtual machine's guest"),
    ("vector_1f", "reserved"),
    ("vector_fe", "the local APIC's error: nothing that the kernel sends is wrong"),
    ("vector_ff", "spurious: QEMU's local APIC withdraws no interrupt from this kernel"),
];

impl Path {
    /// Its instructions, in the order in which a CPU comes to them. What is called in between is Rust's.
    pub fn walk(&self, code: &Code) -> Result<Vec<u64>, InjectError> {
        let mut addresses = Vec::new();
        let mut taken = self.taken.iter();
        let mut next = Some(code.function(self.entry)?.start());
        while let Some(address) = next {
            let instruction = code.at(address)?;
            addresses.push(address);
            next = match instruction.flow_control() {
                FlowControl::Next => Some(instruction.next_ip()),
                FlowControl::UnconditionalBranch => Some(instruction.near_branch_target()),
                FlowControl::ConditionalBranch => match taken.next() {
                    Some(true) => Some(instruction.near_branch_target()),
                    // A branch that the path does not know of is not taken, or the CPU will be missed.
                    _ => Some(instruction.next_ip()),
                },
                FlowControl::Call if self.dies => None,
                FlowControl::Call => Some(instruction.next_ip()),
                FlowControl::Return | FlowControl::IndirectBranch => None,
                _ => {
                    return Err(self.surprise(code, address, "an instruction that leads nobody knows where"));
                }
            };
        }
        match taken.next() {
            Some(_) => Err(self.surprise(code, addresses[0], "fewer branches than the path knows")),
            None => Ok(addresses),
        }
    }

    fn surprise(&self, code: &Code, address: u64, what: &str) -> InjectError {
        InjectError::Code(format!("the path {} has, from {}, {what}", self.name, code.place(address)))
    }
}

/// Those of [`SYSRET`]'s instructions in front of which rsp is ring 3's: up to the switch to the kernel's stack, and
/// from the switch back.
pub fn with_ring_3s_rsp(code: &Code) -> Result<Vec<u64>, InjectError> {
    let mut ring_3s = true;
    let mut addresses = Vec::new();
    for address in SYSRET.walk(code)? {
        let instruction = code.at(address)?;
        if ring_3s {
            addresses.push(address);
        }
        if instruction.mnemonic() == Mnemonic::Mov && instruction.op0_register() == Register::RSP {
            ring_3s = !ring_3s;
        }
    }
    if ring_3s {
        Ok(addresses)
    } else {
        Err(InjectError::Code("a system call ends on the kernel's stack".to_owned()))
    }
}

/// Is it a way that differs from another by a stack pointer of ring 3's?
pub fn is_hostile(name: &str) -> bool {
    name == HOSTILE_NMI_STACK || HOSTILE.iter().any(|(own, _)| *own == name)
}

/// The instructions of the path of this name, or of the windows with a hostile stack pointer.
pub fn walk_of(name: &str, code: &Code) -> Result<Vec<u64>, InjectError> {
    match all().find(|path| path.name == name) {
        Some(path) => path.walk(code),
        None => with_ring_3s_rsp(code),
    }
}

/// Every instruction of the road is on a path, or in a stub of which it is said why it is on none.
pub fn demand_all(code: &Code) -> Result<(), InjectError> {
    let mut reached = BTreeSet::new();
    for path in all() {
        reached.extend(path.walk(code)?);
    }
    for function in &code.functions {
        let excused = UNREACHABLE.iter().any(|(name, _)| *name == function.name);
        for address in function.instructions.iter().map(Instruction::ip) {
            match (reached.contains(&address), excused) {
                (false, false) => {
                    return Err(InjectError::Code(format!("{} is on no path", code.place(address))));
                }
                (true, true) => {
                    return Err(InjectError::Code(format!("{} is on a path after all", code.place(address))));
                }
                _ => {}
            }
        }
    }
    UNREACHABLE.iter().try_for_each(|(name, _)| code.function(name).map(drop))
}

#[cfg(test)]
#[path = "paths_tests.rs"]
mod tests;
