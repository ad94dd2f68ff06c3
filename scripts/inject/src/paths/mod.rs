//! The execution paths into and out of the kernel, each a sequence of instructions, and the interrupt stubs that cannot
//! be reached under QEMU.

use std::collections::BTreeSet;

use iced_x86::{FlowControl, Instruction, Mnemonic, Register};

use super::code::Code;
use super::error::InjectError;

/// A path through the entry and exit code, from the first instruction executed there to the last.
#[derive(Debug, PartialEq, Eq)]
pub struct Path {
    /// The path's name in options and output.
    pub name: &'static str,
    /// The function in which the path begins.
    pub entry: &'static str,
    /// For each conditional branch on the path, whether it is taken.
    pub taken: &'static [bool],
    /// Whether the path ends at its call into Rust, which ends the program or the run.
    pub ends_in_call: bool,
    /// The assembly function that the path's indirect call calls, if it does not call a Rust function.
    pub calls: Option<&'static str>,
}

const fn path(name: &'static str, entry: &'static str, taken: &'static [bool]) -> Path {
    Path { name, entry, taken, ends_in_call: false, calls: None }
}

const fn last(name: &'static str, entry: &'static str, taken: &'static [bool]) -> Path {
    Path { name, entry, taken, ends_in_call: true, calls: None }
}

/// The branches of `trap_common`: for a trap from ring 3, and for the two kinds of traps from ring 0.
const FROM_RING_3: &[bool] = &[false];
const FROM_RING_0: &[bool] = &[true, true];
const FROM_THE_IRETQ: &[bool] = &[true, false];

/// The start of a program.
pub const START: Path = path("start", "enter_ring3", &[]);
/// A path through the entry of a frame handler.
const fn frame(name: &'static str, taken: &'static [bool]) -> Path {
    Path { calls: Some("frame_entry"), ..path(name, "syscall_entry", taken) }
}

/// A system call with a leaf handler that returns by `sysretq`.
pub const SYSRET: Path = path("sysret", "syscall_entry", &[false]);
/// A system call with a leaf handler that returns by `iretq`.
pub const IRET: Path = path("iret", "syscall_entry", &[true]);
/// A system call with a frame handler that returns by `sysretq`.
pub const FRAME: Path = frame("frame", &[true, false]);
/// A system call with a frame handler that returns by `iretq`.
pub const FRAME_IRET: Path = frame("frame-iret", &[false]);
/// An NMI handler, with another NMI pending. The branches: it interrupted ring 0, neither the NMI entry nor an NMI
/// handler nor its return (`jae`, taken); `paranoid_common` returns through `nmi_entry` (`je`, taken), which has no other
/// NMI to handle.
pub const NMI: Path = path("nmi", "nmi_entry", &[false, false, false, true, true, false]);
/// An NMI that arrives while another one is handled.
pub const NMI_NESTED: Path = path("nmi-nested", "nmi_entry", &[false, false, true]);
/// An NMI that arrives when another one has been handled and is about to return.
pub const NMI_RETURNING: Path = path("nmi-returning", "nmi_entry", &[false, false, false, false]);
/// The name of the path of NMIs that arrive before an earlier NMI has saved its frame, which ends the run.
pub const NMI_LOST: &str = "nmi-lost";
/// A debug exception in ring 0.
pub const DEBUG_RING_0: Path = path("debug-ring-0", "vector_01", &[]);
/// A debug exception in ring 3.
pub const DEBUG: Path = last("debug", "vector_01", &[]);
/// A copy from user memory.
pub const COPY: Path = path("copy", "copy_bytes", &[]);
/// A page fault during a copy from user memory.
pub const COPY_FAULT: Path = path("copy-fault", "vector_0e", FROM_RING_0);
/// A wait for the console, with interrupts enabled for one instruction.
pub const WAIT: Path = path("wait", "take_interrupts", &[]);
/// An error interrupt of the local APIC, while the CPU waits for the console.
pub const APIC_ERROR: Path = path("apic-error", "vector_fe", FROM_RING_0);
/// A spurious interrupt, while the CPU waits for the console.
pub const SPURIOUS: Path = path("spurious", "vector_ff", FROM_RING_0);
/// A wake-up IPI in ring 3.
pub const WAKE_RING_3: Path = path("wake-ring-3", "vector_fd", FROM_RING_3);
/// A timer tick in ring 3.
pub const TICK: Path = path("tick", "tick_entry", &[false]);
/// A timer tick in the idle loop: from `tick_entry` (`jz`, taken) to `trap_common`.
pub const TICK_IDLE: Path = path("tick-idle", "tick_entry", &[true, true, true]);
/// A wake-up IPI from another CPU.
pub const WAKE: Path = path("wake", "vector_fd", FROM_RING_0);
/// The end of a program.
pub const END: Path = path("end", "restart_on", &[]);
/// The idle loop's halt.
pub const IDLE: Path = path("idle", "halt", &[]);
/// A machine check.
pub const MACHINE_CHECK: Path = last("machine-check", "vector_12", &[]);
/// A double fault.
pub const DOUBLE_FAULT: Path = last("double-fault", "vector_08", &[]);
/// A fault on the `iretq` to ring 3.
pub const IRET_FAULT: Path = last("iret-fault", "vector_0d", FROM_THE_IRETQ);

/// Exceptions that end a program: the path, the argument of `paths` that raises the exception, and its name in the
/// kernel's messages.
pub const KILLS: [(Path, &str, &str); 7] = [
    (last("divide", "vector_00", FROM_RING_3), "div0", "#DE"),
    (last("breakpoint", "vector_03", FROM_RING_3), "int3", "#BP"),
    (last("overflow", "vector_04", FROM_RING_3), "int4", "#OF"),
    (last("opcode", "vector_06", FROM_RING_3), "ud2", "#UD"),
    (last("protection", "vector_0d", FROM_RING_3), "gp", "#GP"),
    (last("page-fault", "vector_0e", FROM_RING_3), "null", "#PF"),
    (last("x87", "vector_10", FROM_RING_3), "x87", "#MF"),
];

/// The paths of [`Boot::Tour`](super::boots::Boot::Tour), in execution order.
pub const TOUR: [&Path; 20] = [
    &START,
    &NMI,
    &NMI_NESTED,
    &NMI_RETURNING,
    &SYSRET,
    &DEBUG_RING_0,
    &COPY,
    &COPY_FAULT,
    &FRAME,
    &WAIT,
    &APIC_ERROR,
    &SPURIOUS,
    &WAKE_RING_3,
    &TICK,
    &IRET,
    &DEBUG,
    &END,
    &IDLE,
    &TICK_IDLE,
    &WAKE,
];

/// Returns all paths.
pub fn all() -> impl Iterator<Item = &'static Path> {
    let others = [&FRAME_IRET, &IRET_FAULT, &MACHINE_CHECK, &DOUBLE_FAULT];
    TOUR.into_iter().chain(others).chain(KILLS.iter().map(|(path, ..)| path))
}

/// Hostile stack pointers with which the program `paths` makes system calls. For each, the event is injected at the
/// instructions that run with ring 3's rsp.
pub const HOSTILE: [(&str, u64); 3] =
    [("rsp-zero", 0), ("rsp-kernel", 0xffff_8000_0010_0000), ("rsp-noncanonical", 0x0000_8000_0000_0000)];
/// The name of a further hostile stack pointer: the top of the CPU's NMI stack.
pub const HOSTILE_NMI_STACK: &str = "rsp-nmi-stack";

/// Interrupt stubs that cannot be entered under QEMU, with the reason.
pub const UNREACHABLE: [(&str, &str); 25] = [
    ("vector_05", "#BR: `bound` does not exist in 64-bit mode"),
    ("vector_07", "#NM: CR0.TS and CR0.EM are never set"),
    ("vector_09", "reserved: no CPU with an integrated FPU raises it"),
    ("vector_0a", "#TS: there is no task gate, and the TSS is valid"),
    ("vector_0b", "#NP: every descriptor that ring 3 can name is present"),
    ("vector_0c", "#SS: QEMU raises #GP for a non-canonical stack address, and no segment has a limit"),
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
    ("floor_shortest", "only the kernel's option floor uses it, to measure the program lengths"),
    ("floor_saving", "only the kernel's option floor uses it, to measure the program lengths"),
    ("unmask_nmis", "only the kernel's option nest_nmi uses it, in the NMI handler"),
    ("stray_stubs", "vectors that the kernel does not use: like vector_fd, with other numbers"),
];

impl Path {
    /// Returns the addresses of the path's instructions in execution order. Called Rust functions are omitted.
    pub fn addresses(&self, code: &Code) -> Result<Vec<u64>, InjectError> {
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
                    // A branch that the path does not list is assumed not taken. If this is wrong, the wait for the CPU
                    // times out.
                    _ => Some(instruction.next_ip()),
                },
                FlowControl::Call if self.ends_in_call => None,
                FlowControl::Call => Some(instruction.next_ip()),
                FlowControl::IndirectCall => Some(match self.calls {
                    Some(function) => code.function(function)?.start(),
                    None => instruction.next_ip(),
                }),
                FlowControl::Return | FlowControl::IndirectBranch => None,
                _ => {
                    return Err(self.unexpected(
                        code,
                        address,
                        "an instruction that branches to an unknown address",
                    ));
                }
            };
        }
        match taken.next() {
            Some(_) => Err(self.unexpected(code, addresses[0], "fewer branches than the path lists")),
            None => Ok(addresses),
        }
    }

    fn unexpected(&self, code: &Code, address: u64, what: &str) -> InjectError {
        InjectError::Code(format!("the path {} has {what}, starting at {}", self.name, code.place(address)))
    }
}

/// Returns the instructions of [`SYSRET`] that run with ring 3's rsp: up to the switch to the kernel's stack, and from
/// the switch back.
pub fn with_user_rsp(code: &Code) -> Result<Vec<u64>, InjectError> {
    let mut user_rsp = true;
    let mut addresses = Vec::new();
    for address in SYSRET.addresses(code)? {
        let instruction = code.at(address)?;
        if user_rsp {
            addresses.push(address);
        }
        if instruction.mnemonic() == Mnemonic::Mov && instruction.op0_register() == Register::RSP {
            user_rsp = !user_rsp;
        }
    }
    if user_rsp {
        Ok(addresses)
    } else {
        Err(InjectError::Code("the path sysret returns on the kernel's stack".to_owned()))
    }
}

/// Returns whether this is the name of a hostile stack pointer.
pub fn is_hostile(name: &str) -> bool {
    name == HOSTILE_NMI_STACK || HOSTILE.iter().any(|(own, _)| *own == name)
}

/// The instructions at which an NMI may interrupt another one, by what the second NMI then does.
pub struct Nesting {
    /// The first NMI has not saved its frame, so the second NMI ends the run.
    pub lost: Vec<u64>,
    /// The first NMI is being handled. The second NMI returns at once.
    pub nested: Vec<u64>,
    /// The first NMI has been handled. The second NMI lets it run its handler again.
    pub returning: Vec<u64>,
}

/// Returns the instructions of [`NMI`], [`NMI_NESTED`] and [`NMI_RETURNING`], each in order of address.
pub fn nesting(code: &Code) -> Result<Nesting, InjectError> {
    let (again, decided) = (code.label("ringside_nmi_again")?, code.label("ringside_nmi_decided")?);
    let end = code.function(NMI.entry)?.end();
    let mut all = BTreeSet::new();
    for path in [&NMI, &NMI_NESTED, &NMI_RETURNING] {
        all.extend(path.addresses(code)?);
    }
    let entry = code.function(NMI.entry)?.start();
    let part = |is_in: &dyn Fn(u64) -> bool| all.iter().copied().filter(|&address| is_in(address)).collect();
    Ok(Nesting {
        lost: part(&|address| (entry..again).contains(&address)),
        nested: part(&|address| !(entry..again).contains(&address) && !(decided..end).contains(&address)),
        returning: part(&|address| (decided..end).contains(&address)),
    })
}

/// Returns the addresses at which events are injected on the path of this name: those of its instructions, with these
/// exceptions. For a hostile stack pointer, they are those of the instructions that run with ring 3's rsp. For an NMI
/// inside an NMI, they are those of the instructions that it interrupts.
pub fn addresses_of(name: &str, code: &Code) -> Result<Vec<u64>, InjectError> {
    match all().find(|path| path.name == name) {
        _ if name == NMI_LOST => Ok(nesting(code)?.lost),
        Some(path) if *path == NMI_NESTED => Ok(nesting(code)?.nested),
        Some(path) if *path == NMI_RETURNING => Ok(nesting(code)?.returning),
        Some(path) => path.addresses(code),
        None => with_user_rsp(code),
    }
}

/// Checks that every instruction of the entry and exit code is either on a path or in one of the [`UNREACHABLE`] stubs.
pub fn check_coverage(code: &Code) -> Result<(), InjectError> {
    let mut reached = BTreeSet::new();
    for path in all() {
        reached.extend(path.addresses(code)?);
    }
    for function in &code.functions {
        let unreachable = UNREACHABLE.iter().any(|(name, _)| *name == function.name);
        for address in function.instructions.iter().map(Instruction::ip) {
            match (reached.contains(&address), unreachable) {
                (false, false) => {
                    return Err(InjectError::Code(format!("{} is on no path", code.place(address))));
                }
                (true, true) => {
                    return Err(InjectError::Code(format!(
                        "{} is on a path, but listed as unreachable",
                        code.place(address)
                    )));
                }
                _ => {}
            }
        }
    }
    UNREACHABLE.iter().try_for_each(|(name, _)| code.function(name).map(drop))
}

#[cfg(test)]
mod tests;
