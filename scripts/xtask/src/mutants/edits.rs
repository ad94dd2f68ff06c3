//! The source edits of each mutant. [`copy`](super::copy) applies them to a copy of the tree.
//!
//! A fragment to find is code, never a comment, and occurs once in its file. White space in the fragment matches any
//! white space, so that reformatting does not break an edit. Each file's path is a constant below, so that a move
//! changes one line.

/// A replacement of one fragment of a file.
pub struct Edit {
    /// The file's path, relative to the top directory.
    pub file: &'static str,
    /// The fragment to find.
    pub find: &'static str,
    /// The replacement text.
    pub replace: &'static str,
}

const fn edit(file: &'static str, find: &'static str, replace: &'static str) -> Edit {
    Edit { file, find, replace }
}

const ABI: &str = "kernel/abi/src/lib.rs";
const ACPI: &str = "kernel/src/arch/memory/acpi.rs";
const ACPI_TABLES: &str = "kernel/src/acpi_tables/mod.rs";
const ADDRESS_SPACE: &str = "kernel/src/arch/memory/address_space.rs";
const AREA: &str = "kernel/src/arch/percpu/area.rs";
const CALLS: &str = "kernel/src/arch/entry/calls.rs";
const CLOCK_SOURCE: &str = "kernel/src/clock_source.rs";
const CONSOLE: &str = "kernel/src/init/console.rs";
const CONTROL: &str = "kernel/src/arch/cpu/control.rs";
const DRAW: &str = "kernel/src/screen/draw.rs";
const PARANOID: &str = "kernel/src/arch/entry/points/paranoid.rs";
const NMI_ENTRY: &str = "kernel/src/arch/entry/points/nmi.rs";
const STUBS: &str = "kernel/src/arch/entry/points/stubs.rs";
const EXIT: &str = "kernel/src/arch/exit/points.rs";
const FINISH: &str = "kernel/src/arch/devices/finish.rs";
const GDT: &str = "kernel/src/arch/cpu/gdt.rs";
const HANDLERS: &str = "kernel/src/syscall.rs";
const IDLE: &str = "kernel/src/arch/task/idle.rs";
const IDT: &str = "kernel/src/arch/entry/idt.rs";
const IMAGE: &str = "kernel/src/arch/boot/image.rs";
const LEFT_OVER: &str = "kernel/src/arch/interrupts/left_over.rs";
const MACHINE_CHECK: &str = "kernel/src/arch/cpu/machine_check.rs";
const MSR: &str = "kernel/src/arch/cpu/msr.rs";
const NMI: &str = "kernel/src/arch/entry/nmi.rs";
const ONLINE: &str = "kernel/src/online.rs";
const PAGING: &str = "kernel/src/arch/memory/paging.rs";
const REPEAT: &str = "kernel/src/repeat.rs";
const RUN: &str = "kernel/src/run.rs";
const RING3: &str = "kernel/src/arch/task/ring3.rs";
const RUNTIME_SERVICES: &str = "kernel/src/arch/memory/runtime_services.rs";
const SELECTORS: &str = "kernel/src/selectors.rs";
const SMAP: &str = "kernel/src/arch/entry/smap.rs";
const SMP: &str = "kernel/src/arch/smp/bring_up.rs";
const START: &str = "kernel/src/arch/boot/start.S";
const STEPS: &str = "kernel/src/init/steps.rs";
const STOP: &str = "kernel/src/arch/panic/stop.rs";
const SYNC: &str = "kernel/src/sync.rs";
const SYSCALL: &str = "kernel/src/arch/entry/points/syscall.rs";
const SYSRET: &str = "kernel/src/sysret.rs";
const THIS_CPU: &str = "kernel/src/arch/smp/this_cpu.rs";
const TICK: &str = "kernel/src/arch/entry/tick.rs";
const TICK_ENTRY: &str = "kernel/src/arch/entry/points/tick.rs";
const TICK_WORK: &str = "kernel/src/tick_work.rs";
const TIMER: &str = "kernel/src/arch/interrupts/timer.rs";
const TOPOLOGY: &str = "kernel/src/topology/mod.rs";
const TRACE: &str = "kernel/src/arch/trace/mod.rs";
const TRAMPOLINE: &str = "ap_trampoline/src/trampoline.S";
const TRANSMIT: &str = "kernel/src/transmit.rs";
const TRAP_ENTRY: &str = "kernel/src/arch/entry/points/trap.rs";
const TRAP: &str = "kernel/src/arch/entry/trap.rs";
const TURNS: &str = "kernel/src/turns.rs";
const UART_PROBE: &str = "kernel/src/uart_probe.rs";
const USER_SLICE: &str = "kernel/src/user_slice.rs";
const WINDOWS: &str = "kernel/src/windows.rs";

/// The edits of each mutant, in the order of the table.
#[rustfmt::skip] // keeps one edit per line, however long
pub const EDITS: &[(&str, &[Edit])] = &[
    // SFMASK lacks IF: interrupts stay enabled across `syscall`.
    ("sfmask-if", &[edit(MSR, ".union(RFlags::INTERRUPT_FLAG)", "")]),
    // SFMASK lacks TF: ring 3 can single-step the entry code.
    ("sfmask-tf", &[edit(MSR, ".union(RFlags::TRAP_FLAG)", "")]),
    // SFMASK lacks DF: ring 0 runs with ring 3's direction flag.
    ("sfmask-df", &[edit(MSR, ".union(RFlags::DIRECTION_FLAG)", "")]),
    // SFMASK lacks AC: ring 3 can disable SMAP in ring 0.
    ("sfmask-ac", &[edit(MSR, ".union(RFlags::ALIGNMENT_CHECK)", "")]),
    // SFMASK lacks NT: an `iretq` in ring 0 faults.
    ("sfmask-nt", &[edit(MSR, ".union(RFlags::NESTED_TASK)", "")]),
    // STAR's user base lacks RPL 3.
    ("star-rpl", &[edit(SELECTORS, "0x10 | Ring3 as u16;", "0x10;")]),
    // SYSENTER has a valid code segment.
    ("sysenter-open", &[edit(MSR, "IA32_SYSENTER_CS, 0)", "IA32_SYSENTER_CS, 8)")]),
    // MSRs are read back, but a difference is ignored.
    ("msr-not-compared", &[edit(MSR, "if read != written {", "if read != written && false {")]),
    // IA32_TSC_AUX stays as the firmware left it.
    ("tsc-aux-left", &[edit(MSR, "if !features.tsc_aux {", "if !features.tsc_aux || true {")]),
    // The exit path of a system call does not restore rdi.
    ("syscall-register-lost", &[
        edit(SYSCALL, r#""ringside_syscall_return:", "pop r9", "pop r8", "pop r10", "pop rdx", "pop rsi", "pop rdi","#, r#""ringside_syscall_return:", "pop r9", "pop r8", "pop r10", "pop rdx", "pop rsi", "lea rsp, [rsp + 8]","#),
    ]),
    // No `swapgs` before `sysretq`.
    ("syscall-gs-not-restored", &[edit(SYSCALL, r#""swapgs", "sysretq","#, r#""sysretq","#)]),
    // All CPUs use the BSP's syscall stack.
    ("syscall-stack-shared", &[
        edit(AREA, "syscall_stack_top: layout::syscall_stack(id).end", "syscall_stack_top: layout::syscall_stack(CpuId::BSP).end"),
    ]),
    // The system-call number is not bounds-checked.
    ("syscall-number-unchecked", &[
        edit(SYSCALL, r#""mov ecx, {table_len}", "cmp rax, rcx", "cmovb rcx, rax","#, r#""mov rcx, rax", "/* {table_len} */","#),
    ]),
    // The index is limited by a branch, which can be mispredicted.
    ("syscall-index-predicted", &[edit(SYSCALL, r#""cmovb rcx, rax","#, r#""jae 5f", "mov rcx, rax", "5:","#)]),
    // A leaf handler indexes an array by an argument.
    ("leaf-may-panic", &[edit(HANDLERS, "fn call(_: Arguments) -> u64 { 0 }", "fn call(arguments: Arguments) -> u64 { [0, 0][arguments.rdi as usize] }")]),
    // A leaf handler waits for the first tick.
    ("leaf-waits", &[
        edit(HANDLERS, "fn call(_: Arguments) -> u64 { 0 }", "fn call(_: Arguments) -> u64 { while PerCpuData::current_ticks() == 0 {} 0 }"),
    ]),
    // The exit of a frame handler does not restore rbp.
    ("frame-register-lost", &[edit(SYSCALL, r#""pop rbp", "pop rbx","#, r#""lea rsp, [rsp + 8]", "pop rbx","#)]),
    // The exit of a frame handler does not put the user's rsp back.
    ("frame-rsp-lost", &[
        edit(SYSCALL, r#""pop qword ptr gs:[{user_rsp}]", "jnz {by_sysret}","#, r#""lea rsp, [rsp + 8]", "mov qword ptr gs:[{user_rsp}], 0", "jnz {by_sysret}","#),
    ]),
    // A call with a leaf handler returns by `sysretq` although TF is set.
    ("sysret-with-tf", &[edit(SYSCALL, r#""test r11d, {tf}", "jnz 3f","#, r#""/* {tf} */","#)]),
    // `sysretq` is used for any RIP.
    ("sysret-any-rip", &[edit(SYSRET, "& (to.rip < USER_END)", "& (to.rip < USER_END || true)")]),
    // The last page below the non-canonical range can be mapped, and `sysretq` returns to any address.
    ("sysret-non-canonical", &[
        edit(ABI, "USER_END: u64 = 0x0000_7fff_ffff_f000;", "USER_END: u64 = 0x0000_8000_0000_0000;"),
        edit(SYSRET, "& (to.rip < USER_END)", "& (to.rip < USER_END || true)"),
    ]),
    // `sysretq` is used for any flags.
    ("sysret-any-flags", &[edit(SYSRET, "1 << 8 | 3 << 12 | 1 << 16 | 1 << 17;", "0;")]),
    // User pointers are not range-checked.
    ("user-range-unchecked", &[
        edit(USER_SLICE, "if ptr < USER_END && len <= USER_END - ptr {", "if true || ptr < USER_END && len <= USER_END - ptr {"),
    ]),
    // A page fault in a user copy is not recovered from.
    ("copy-without-fixup", &[edit(TRAP, "&& Cr2::read_raw() < USER_END", "&& false && Cr2::read_raw() < USER_END")]),
    // No `clac` after a user copy.
    ("copy-leaves-ac", &[edit(SMAP, "(ringside_clac_copy, CLAC)", "(ringside_clac_copy, NOP)")]),
    // No `cld` on the ordinary vectors' entry path.
    ("trap-without-cld", &[edit(TRAP_ENTRY, r#"trap_common() { naked_asm!( "cld","#, "trap_common() { naked_asm!(")]),
    // No `clac` on the ordinary vectors' entry path.
    ("trap-without-clac", &[edit(SMAP, "(ringside_clac_trap, CLAC)", "(ringside_clac_trap, NOP)")]),
    // The exit path of a tick does not restore rdi, the fifth of the saved registers.
    ("tick-register-lost", &[
        edit(TICK_ENTRY, r#""call {from_user}","#, r#""call {from_user}", "mov [rsp + 4 * 8], rdi","#),
    ]),
    // The tick handler changes a callee-saved register.
    ("tick-changes-rbx", &[
        edit(TICK_ENTRY, r#""call {from_user}","#, r#""call {from_user}", "mov ebx, 7","#),
    ]),
    // The exit path of an interrupt other than a tick does not restore rdi: the saved value is overwritten before it is popped.
    ("trap-register-lost", &[
        edit(TRAP_ENTRY, r#""call {from_user}","#, r#""call {from_user}", "mov [rsp + {rdi}], rdi","#),
        edit(TRAP_ENTRY, "from_user = sym trap_from_user,", "from_user = sym trap_from_user, rdi = const offset_of!(TrapFrame, rdi),"),
    ]),
    // No `cld` on the tick's entry path.
    ("tick-without-cld", &[edit(TICK_ENTRY, r#"tick_entry() { naked_asm!( "cld","#, "tick_entry() { naked_asm!(")]),
    // No `clac` on the tick's entry path.
    ("tick-without-clac", &[edit(SMAP, "(ringside_clac_tick, CLAC)", "(ringside_clac_tick, NOP)")]),
    // A tick does none of its work other than counting.
    ("tick-work-ignored", &[edit(TICK_WORK, "self.0.load(Ordering::Relaxed) == 0", "self.0.load(Ordering::Relaxed) == 0 || true")]),
    // A new measurement of the tick rate continues the previous one.
    ("measurement-continued", &[edit("kernel/src/arch/percpu/time.rs", "self.first_tick.set(number);", "")]),
    // The NMI handler does not request a report.
    ("nmi-report-not-requested", &[edit(TICK_WORK, "work.request(Work::ReportNmis);", "let _not_called = || work.request(Work::ReportNmis);")]),
    // The request for a report is withdrawn after the NMIs are counted as reported.
    ("nmi-report-lost", &[
        edit(TICK_WORK, "work.withdraw(Work::ReportNmis); let taken", "let taken"),
        edit(TICK_WORK, "self.reported.store(taken, Ordering::Relaxed);", "self.reported.store(taken, Ordering::Relaxed); work.withdraw(Work::ReportNmis);"),
    ]),
    // Withdrawing work also withdraws what an NMI has requested meanwhile.
    ("tick-work-not-atomic", &[
        edit(TICK_WORK, "self.0.fetch_and(!(work as u32), Ordering::Acquire) & work as u32 != 0",
            "let was = self.0.load(Ordering::Acquire); self.0.store(was & !(work as u32), Ordering::Release); was & work as u32 != 0"),
    ]),
    // A fault on the `iretq` to ring 3 is handled with ring 3's GS base.
    ("iretq-fault-gs", &[edit(TRAP_ENTRY, r#""jne 4f", "swapgs","#, r#""jne 4f","#)]),
    // The tick handler changes a vector register.
    ("tick-uses-xmm", &[
        edit(TICK, "cpu.end_of_interrupt();", r#"cpu.end_of_interrupt(); unsafe { core::arch::asm!("pcmpeqb xmm15, xmm15", options(nomem, nostack, preserves_flags)); }"#),
    ]),
    // No `cld` on the entry path of NMI, #DB, #MC and #DF.
    ("paranoid-without-cld", &[
        edit(PARANOID, r#"paranoid_common() { naked_asm!( "cld","#, "paranoid_common() { naked_asm!("),
    ]),
    // No `clac` on the entry path of NMI, #DB, #MC and #DF.
    ("paranoid-without-clac", &[edit(SMAP, "(ringside_clac_paranoid, CLAC)", "(ringside_clac_paranoid, NOP)")]),
    // NMI, #DB, #MC and #DF set the GS base only if they interrupted ring 3 according to CS. The edit adds no branch,
    // because `inject` expects the branches of the unchanged paths.
    ("paranoid-trusts-cs", &[
        edit(PARANOID, r#""mov rax, rsi", "mov rdx, rsi","#, r#""mov rax, rsi", "test byte ptr [rsp + {cs}], 3", "cmovz rax, r12", "mov rdx, rax","#),
        edit(PARANOID, "handler = sym paranoid_trap,", "handler = sym paranoid_trap, cs = const offset_of!(TrapFrame, interrupted) + offset_of!(crate::frame::InterruptFrame, cs),"),
    ]),
    // NMI, #DB, #MC and #DF do not restore the GS base.
    ("paranoid-gs-not-restored", &[
        edit(PARANOID, r#""mov rdx, r12", "shr rdx, 32", "wrmsr","#, r#""mov rdx, r12", "shr rdx, 32","#),
    ]),
    // NMIs have no IST stack.
    ("nmi-without-ist", &[edit(IDT, "NMI => IstStack::Nmi.index(),", "NMI => 0,")]),
    // #DB has no IST stack.
    ("debug-without-ist", &[edit(IDT, "DEBUG => IstStack::Debug.index(),", "DEBUG => 0,")]),
    // #DF has no IST stack.
    ("double-fault-without-ist", &[edit(IDT, "DOUBLE_FAULT => IstStack::DoubleFault.index(),", "DOUBLE_FAULT => 0,")]),
    // TSS.RSP0 of every CPU is the BSP's.
    ("rsp0-shared", &[edit(GDT, "layout::syscall_stack(cpu)", "layout::syscall_stack(CpuId::BSP)")]),
    // All CPUs use the BSP's IST stacks.
    ("ist-shared", &[edit(GDT, "layout::ist_stack(cpu, which)", "layout::ist_stack(CpuId::BSP, which)")]),
    // The page below the syscall stack is mapped.
    ("stack-without-guard", &[
        edit(AREA, "let syscall_stack = layout::syscall_stack(id);", "let syscall_stack = layout::area(id).start..layout::syscall_stack(id).end;"),
    ]),
    // The TSS's I/O permission bitmap is inside the TSS.
    ("io-map-open", &[
        edit(GDT, "let mut tss = TaskStateSegment::new();", "let mut tss = TaskStateSegment::new(); tss.iomap_base = 0;"),
    ]),
    // LDTR keeps its reset value.
    ("ldt-as-at-reset", &[
        edit(GDT, r#"core::arch::asm!("lldt {0:x}", in(reg) SegmentSelector::NULL.0, options(nostack, preserves_flags));"#, ""),
    ]),
    // Ring 3 can raise the timer's vector with `int`.
    ("gate-open", &[
        edit(IDT, "matches!(vector, 3 | 4);", "matches!(vector, 3 | 4 | crate::arch::interrupts::apic::TIMER_VECTOR);"),
    ]),
    // A tick sends no EOI.
    ("eoi-missing", &[edit(TICK, "cpu.end_of_interrupt();", "")]),
    // A tick sends two EOIs.
    ("eoi-doubled", &[edit(TICK, "cpu.end_of_interrupt();", "cpu.end_of_interrupt(); cpu.end_of_interrupt();")]),
    // In xAPIC mode, the EOI is written to the MSR of x2APIC mode.
    ("eoi-in-wrong-mode", &[edit("kernel/src/arch/interrupts/eoi.rs", "if apic.is_x2apic() { 0 }", "if apic.is_x2apic() || true { 0 }")]),
    // The vectors that the kernel does not use have no gates.
    ("stray-without-gate", &[
        edit(IDT, "for (vector, stub) in stubs() {", "for (vector, stub) in stubs() { if (0x21..=0xfc).contains(&vector) { continue; }"),
    ]),
    // A stray interrupt gets no EOI.
    ("stray-without-eoi", &[edit(TRAP, "if stray.in_service &&", "if false && stray.in_service &&")]),
    // The stubs of #AC and related exceptions expect an error code from an interrupt.
    ("stray-frame-shifted", &[edit(STUBS, r#""jz 2f", "push 0", "2:","#, r#""nop", "2:","#)]),
    // The lines of the I/O APICs stay as the firmware left them.
    ("io-apic-left", &[edit(STEPS, "io_apic.mask_all();", "")]),
    // Entries that the APIC's local vector table does not have are written.
    ("lvt-missing-written", &[edit(LEFT_OVER, "(number <= last)", "(number <= 6)")]),
    // An interrupt that the firmware left in service stays there.
    ("in-service-left", &[edit(LEFT_OVER, "while ended < 256 &&", "while false && ended < 256 &&")]),
    // The task priority stays as the firmware left it.
    ("task-priority-left", &[edit(LEFT_OVER, "self.write(TASK_PRIORITY, 0);", "")]),
    // Interrupts that the firmware left pending are taken by a program.
    ("pending-left", &[edit(THIS_CPU, "for _ in 0..256 {", "for _ in 0..0 {")]),
    // A program starts with a kernel value in rdi.
    ("start-register-leaked", &[edit(EXIT, r#""xor edi, edi","#, "")]),
    // A program starts with the FPU state of the previous program.
    ("start-fpu-leaked", &[edit(EXIT, r#""fninit", "fxrstor64 [rsi]","#, "")]),
    // On AMD, a program starts with the address and opcode of the previous program's last x87 instruction.
    ("start-x87-addresses-leaked", &[edit(EXIT, r#""fninit","#, "")]),
    // A program starts with the data segments of the previous program.
    ("start-segments-leaked", &[edit(EXIT, r#""mov ds, eax","#, "")]),
    // A program's incomplete output line is kept for the next program.
    ("line-kept", &[
        edit(RING3, "cpu.line.borrow_mut().flush(", "let _not_called = || cpu.line.borrow_mut().flush("),
    ]),
    // A program's pages keep their previous contents.
    ("page-not-zeroed", &[
        edit(ADDRESS_SPACE, "Err(MapError::Occupied); } let frame = physmem::alloc_zeroed()", "Err(MapError::Occupied); } let frame = physmem::alloc()"),
    ]),
    // A program that exceeds its time limit continues.
    ("limit-ignored", &[edit(REPEAT, "ticks >= self.end_at.get()", "ticks >= self.end_at.get() && false")]),
    // A tick does not check the time limit.
    ("tick-ignores-limit", &[edit(TICK, "if FROM_USER {", "if FROM_USER && false {")]),
    // A tick with other work does not check the time limit.
    ("tick-with-work-ignores-limit", &[edit(TICK, "inject::ring3_tick(cpu); ring3::end_if_over_limit(cpu);", "inject::ring3_tick(cpu);")]),
    // Ring 0 can write read-only pages.
    ("wp-off", &[edit(CONTROL, "cr0: BOOT_CR0.bits()", "cr0: (BOOT_CR0 - Cr0Flags::WRITE_PROTECT).bits()")]),
    // Ring 0 can write read-only pages, but only on the APs.
    ("ap-without-wp", &[
        edit(CONTROL, "let state = ControlState { cr0: BOOT_CR0.bits()", "use x86_64::registers::model_specific::{ApicBase, ApicBaseFlags}; \
            let bsp = ApicBase::read().1.contains(ApicBaseFlags::BSP); \
            let state = ControlState { cr0: if bsp { BOOT_CR0 } else { BOOT_CR0 - Cr0Flags::WRITE_PROTECT }.bits()"),
    ]),
    // Ring 0 can execute user pages.
    ("smep-off", &[edit(CONTROL, "SUPERVISOR_MODE_EXECUTION_PROTECTION, self.smep)", "SUPERVISOR_MODE_EXECUTION_PROTECTION, self.smep && false)")]),
    // Ring 0 can read user pages.
    ("smap-off", &[edit(CONTROL, "SUPERVISOR_MODE_ACCESS_PREVENTION, self.smap)", "SUPERVISOR_MODE_ACCESS_PREVENTION, self.smap && false)")]),
    // Ring 3 can read the addresses of the descriptor tables.
    ("umip-off", &[edit(CONTROL, "USER_MODE_INSTRUCTION_PREVENTION, self.umip)", "USER_MODE_INSTRUCTION_PREVENTION, self.umip && false)")]),
    // DR7 stays as the firmware left it.
    ("debug-registers-left", &[edit(CONTROL, "Dr7::write_raw(state.dr7);", "")]),
    // The machine-check banks stay as the firmware left them.
    ("machine-checks-left", &[edit(MACHINE_CHECK, "write(status_msr(bank), 0);", "")]),
    // Machine-check reporting stays disabled, as the firmware left it.
    ("machine-checks-disabled", &[edit(MACHINE_CHECK, "write(IA32_MCG_CTL, ALL_ERRORS);", "")]),
    // An ACPI table with a wrong checksum is used.
    ("table-checksum-unchecked", &[edit(ACPI_TABLES, "if sum(bytes) != 0 {", "if false {")]),
    // An ACPI table with any length is read.
    ("table-length-unchecked", &[
        edit(ACPI_TABLES, "if !(HEADER_LEN..=TABLE_MAX).contains(&(len as usize)) {", "if false {"),
    ]),
    // A second clock that contradicts the first one is ignored.
    ("clock-unchecked", &[edit(CLOCK_SOURCE, "self.check.is_none_or(|check| check.agrees(self.used))", "true")]),
    // The first clock is used although two others contradict it.
    ("clock-not-outvoted", &[edit(CLOCK_SOURCE, "if !second.agrees(first) && second.agrees(third)", "if false && second.agrees(third)")]),
    // The median of the windows is used although they disagree.
    ("clock-windows-unchecked", &[edit(WINDOWS, "let median = clock::pick(&mut samples)?;", "samples.sort_unstable(); let median = samples[SAMPLES_MIN / 2];")]),
    // The rate over all windows is used although one of them disagrees.
    ("clock-window-not-outvoted", &[edit(WINDOWS, "samples.iter().all(|sample| sample.agrees(overall))", "true")]),
    // A large page is mapped where only a part of it is memory.
    ("memory-edges-rounded", &[edit(PAGING, "if !mixed && info.covers(large..large_end) {", "if !mixed {")]),
    // Pages with firmware tables outside the memory map are cached.
    ("tables-cached", &[edit(ACPI, "page, paging::DEVICE) };", "page, paging::KERNEL_DATA) };")]),
    // A failure before Rust code runs is written to the port of QEMU's exit device on every machine.
    ("exit-device-assumed", &[edit(START, "je .Lhalt mov edx, {exit_port}", "nop\nmov edx, {exit_port}")]),
    // The runtime services of UEFI firmware are not called.
    ("runtime-services-unused", &[edit(FINISH, "call_firmware(Reset::PowerOff);", "")]),
    // The firmware is called with the last program's FPU control words.
    ("firmware-fpu-left", &[edit(RUNTIME_SERVICES, "unsafe { fpu::reset() };", "")]),
    // The clock wraps while the TSC is below its value at boot.
    ("clock-wraps", &[edit(TIMER, "tsc.saturating_sub(self.boot)", "tsc.wrapping_sub(self.boot)")]),
    // A machine check causes a shutdown.
    ("mce-off", &[edit(CONTROL, "| Cr4Flags::MACHINE_CHECK_EXCEPTION;", ";")]),
    // Ring 3 can set its GS base.
    ("fsgsbase-on", &[
        edit(CONTROL, "| Cr4Flags::MACHINE_CHECK_EXCEPTION;", "| Cr4Flags::MACHINE_CHECK_EXCEPTION | Cr4Flags::FSGSBASE;"),
    ]),
    // Ring 3 can read performance counters.
    ("pce-on", &[
        edit(CONTROL, "| Cr4Flags::MACHINE_CHECK_EXCEPTION;", "| Cr4Flags::MACHINE_CHECK_EXCEPTION | Cr4Flags::PERFORMANCE_MONITOR_COUNTER;"),
    ]),
    // x87 errors raise no exception.
    ("x87-errors-external", &[edit(CONTROL, "cr0: BOOT_CR0.bits()", "cr0: (BOOT_CR0 - Cr0Flags::NUMERIC_ERROR).bits()")]),
    // Ring 3 can write its own code and constants.
    ("user-text-writable", &[edit(ADDRESS_SPACE, "PageTableFlags::WRITABLE, self.write)", "PageTableFlags::WRITABLE, self.write || true)")]),
    // User data and stacks are executable.
    ("user-data-executable", &[edit(ADDRESS_SPACE, "PageTableFlags::NO_EXECUTE, !self.execute)", "PageTableFlags::NO_EXECUTE, !(self.execute || true))")]),
    // The kernel's text can be written.
    ("text-writable", &[
        edit(IMAGE, "let execute = PageTableFlags::PRESENT;", "let execute = PageTableFlags::PRESENT | PageTableFlags::WRITABLE;"),
    ]),
    // The kernel's text can be written through the physical map.
    ("text-alias-writable", &[
        edit(PAGING, "section.range.contains(&(phys + KERNEL_BASE))", "section.range.contains(&(phys + KERNEL_BASE)) && false"),
    ]),
    // Ring 3 can access the physical map.
    ("physmap-for-ring-3", &[
        edit(PAGING, "(tables, large, KERNEL_DATA)", "(tables, large, KERNEL_DATA | PageTableFlags::USER_ACCESSIBLE)"),
    ]),
    // A program's pages are not freed.
    ("frame-leaked", &[
        edit(ADDRESS_SPACE, "else if !entry.flags().contains(SHARED) {", "else if !entry.flags().contains(SHARED) && false {"),
    ]),
    // CPUs that the firmware lists as disabled are used.
    ("madt-any-flags", &[edit(TOPOLOGY, "let enabled = flags & ENABLED != 0;", "let enabled = flags & ENABLED != 0 || true;")]),
    // An offered slot is not closed, so a late AP joins.
    ("late-ap-let-in", &[
        edit(ONLINE, "VACANT | OFFERED | PARKED => Closed::Absent,", "OFFERED if true => return Closed::Absent, VACANT | OFFERED | PARKED => Closed::Absent,"),
    ]),
    // A slot is offered without release ordering.
    ("offer-relaxed", &[
        edit(ONLINE, "compare_exchange(VACANT, OFFERED, Ordering::Release,", "compare_exchange(VACANT, OFFERED, Ordering::Relaxed,"),
    ]),
    // A CPU that has left is parked without release ordering.
    ("park-relaxed", &[
        edit(ONLINE, "compare_exchange(LEAVING, PARKED, Ordering::Release,", "compare_exchange(LEAVING, PARKED, Ordering::Relaxed,"),
    ]),
    // The BSP reuses an area while its CPU is still leaving.
    ("reclaim-while-leaving", &[
        edit(ONLINE, "compare_exchange(PARKED, VACANT,", "compare_exchange(state.load(Ordering::Relaxed).clamp(LEAVING, PARKED), VACANT,"),
    ]),
    // The stacks of a CPU that has left are not zeroed.
    ("area-not-scrubbed", &[edit(AREA, "unsafe { bytes.write_bytes(0,", "unsafe { bytes.write_bytes(0, 0 *")]),
    // A slot is claimed by a load followed by a store.
    ("claim-without-exchange", &[
        edit(ONLINE, "state.compare_exchange(OFFERED, CLAIMED,", "if state.load(Ordering::Acquire) == OFFERED { \
            state.store(CLAIMED, Ordering::Relaxed); return true; } state.compare_exchange(OFFERED, CLAIMED,"),
    ]),
    // The trampoline claims its slot without a lock prefix.
    ("claim-without-lock", &[edit(TRAMPOLINE, "lock cmpxchgl", "cmpxchgl")]),
    // The trampoline reads the APIC id from CPUID leaf 1, which has only its low 8 bits.
    ("apic-id-from-cpuid", &[
        edit(TRAMPOLINE, "rdmsr movl %eax, %edi", "movl ${cpuid_features}, %eax\n cpuid\n shrl $24, %ebx\n movl %ebx, %edi"),
    ]),
    // The trampoline does not check the CPU's features.
    ("ap-features-unchecked", &[edit(TRAMPOLINE, "orl %edi, %eax jz 3f", "jmp 3f")]),
    // The AP's entry point does not check the optional features.
    ("ap-optional-features-unchecked", &[edit(SMP, "features.missing_from(Features::detect())", "features.missing_from(features)")]),
    // An AP uses the optional features that the command line excludes.
    ("ap-uses-excluded-features", &[
        edit(SMP, "this_cpu::set_up(cpu, features, upcalls", "this_cpu::set_up(cpu, Features { x2apic: features.x2apic, ..Features::detect() }, upcalls"),
    ]),
    // An AP sets x2APIC mode whatever the mode of the BSP's APIC.
    ("ap-always-x2apic", &[edit(TRAMPOLINE, "cmpl $0, {config_x2apic}(%rsi) je 1f", "cmpl $0, {config_x2apic}(%rsi)")]),
    // The BSP uses the optional features that the command line excludes.
    ("excluded-features-used", &[
        edit(STEPS, "Features::detect().without(Options::requested_without(info.command_line()))", "Features::detect()"),
    ]),
    // A report counts although two CPUs share its row.
    ("shared-report-trusted", &[edit(ONLINE, "(sharing == 1).then_some(lacking)", "(sharing >= 1).then_some(lacking)")]),
    // An AP reports its arrival without release ordering.
    ("arrive-relaxed", &[
        edit(ONLINE, "compare_exchange(CLAIMED, ONLINE, Ordering::Release,", "compare_exchange(CLAIMED, ONLINE, Ordering::Relaxed,"),
    ]),
    // A CPU arrives at a barrier without release ordering.
    ("gate-arrive-relaxed", &[edit(SYNC, "arrived.fetch_add(1, Ordering::Release)", "arrived.fetch_add(1, Ordering::Relaxed)")]),
    // A CPU reads the state of a barrier without acquire ordering.
    ("gate-open-relaxed", &[edit(SYNC, "arrived.load(Ordering::Acquire)", "arrived.load(Ordering::Relaxed)")]),
    // An NMI between `sti` and `hlt` resumes at the `hlt`.
    ("idle-halts-after-nmi", &[
        edit(IDLE, "if rip == ringside_idle_hlt as *const () as u64 {", "if rip == ringside_idle_hlt as *const () as u64 && false {"),
    ]),
    // A CPU that panics does not stop the others.
    ("panic-alone", &[edit(STOP, "for other in others() {", "for other in others().take(0) {")]),
    // A CPU that panics before it has enabled its local APIC does not stop the others.
    ("panic-before-apic-alone", &[edit(STOP, "if enabled.is_none() {", "if false {")]),
    // A CPU that panics waits for the console's lock, whichever CPU holds it.
    ("console-kept-locked", &[edit(STOP, "if alone {", "if alone && false {")]),
    // A CPU that panics counts how many times the others have parked.
    ("stop-counted-twice", &[
        edit(STOP, "static PANIC_CPU: AtomicU32 = AtomicU32::new(NONE);", "static PANIC_CPU: AtomicU32 = AtomicU32::new(NONE); static PARKS: AtomicU32 = AtomicU32::new(0);"),
        edit(STOP, "cpu.published.stopped.store(true, Ordering::Release);", "cpu.published.stopped.store(true, Ordering::Release); PARKS.fetch_add(1, Ordering::Release);"),
        edit(STOP, "wait_until(|| percpu::created().all(PerCpuData::has_stopped_if_requested));", "wait_until(|| PARKS.load(Ordering::Acquire) as usize >= others().count());"),
    ]),
    // The wait for a UART has no time limit.
    ("uart-wait-unbounded", &[
        edit(TRANSMIT, "if now.wrapping_sub(start) >= limit {", "if now.wrapping_sub(start) >= limit && false {"),
    ]),
    // A device whose status bits are those of a UART is used as a UART.
    ("uart-loop-back-unchecked", &[edit(UART_PROBE, "status & INPUTS == CTS_DCD", "status & INPUTS == CTS_DCD || true")]),
    // The console stays at COM1, whatever the firmware's tables say.
    ("spcr-ignored", &[edit(CONSOLE, "serial::set_uart(Some(uart));", "drop(uart);")]),
    // The screen shows mirrored characters.
    ("screen-mirrored", &[edit(DRAW, "bits >> (font::WIDTH - 1 - n) & 1", "bits >> n & 1")]),
    // A row of the screen is not drawn.
    ("screen-row-left-out", &[edit(DRAW, "if let Some(columns) = cells.changed(row) {", "if row != 5 && let Some(columns) = cells.changed(row) {")]),
    // A CPU whose program prints waits for the UART with interrupts off.
    ("printing-without-ticks", &[edit(IDLE, r#"naked_asm!("sti", "nop", "pause", "cli", "ret")"#, r#"naked_asm!("pause", "ret")"#)]),
    // The console is not handed over: the next holder is whichever CPU takes it first.
    ("turns-not-handed-over", &[
        edit(TURNS, "if self.waiting.load(Ordering::Relaxed) > 0 && let", "if false && self.waiting.load(Ordering::Relaxed) > 0 && let"),
        edit(TURNS, "if !new || !self.try_take(me) {", "if true || !new || !self.try_take(me) {"),
    ]),
    // A CPU that begins to wait while another CPU releases the console stays halted.
    ("turns-flags-not-rechecked", &[edit(TURNS, "if !new || !self.try_take(me) {", "if true || !new || !self.try_take(me) {")]),
    // An error of the local APIC that arrives while its CPU prints is not reported.
    ("apic-error-unreported", &[
        edit("kernel/src/arch/percpu/print.rs", "cpu.printing.set(false); report_apic_errors(cpu);", "cpu.printing.set(false);"),
    ]),
    // No record reports dropped output.
    ("dropped-unreported", &[edit(RUN, "print::dropped_records();", "")]),
    // A CPU that panics uses only its GS base to identify itself.
    ("panic-cpu-by-gs-alone", &[
        edit(STOP, "percpu::of_stack(CallRegisters::here().rsp);", "percpu::of_stack(CallRegisters::here().rsp).filter(|_| false);"),
    ]),
    // An AP loads GDT, TSS and IDT late, after the injected stack overflow.
    ("tables-late", &[
        edit(SMP, "} inject::at(cpu, Place::BringUp);", "}"),
        edit(SMP, "paging::load_kernel_tables();", "paging::load_kernel_tables(); inject::at(cpu, Place::BringUp);"),
    ]),
    // An NMI in the NMI handler is not recognised, and runs the handler in the handler.
    ("nmi-nested-unnoticed", &[edit(NMI_ENTRY, r#""jne ringside_nmi_nested","#, "")]),
    // The handler does not run again for an NMI that arrived in it.
    ("nmi-nested-lost", &[edit(NMI_ENTRY, r#""jnz ringside_nmi_again","#, r#""nop","#)]),
    // An NMI between the decision to return and the `iretq` is handled like an NMI outside the handler.
    ("nmi-returning-unnoticed", &[edit(
        NMI_ENTRY,
        r#""cmp    rax, offset ringside_nmi_return_length","#,
        r#""cmp    rax, 0","#,
    )]),
    // The handler continues although the frame of the NMI that it handles is lost.
    ("nmi-frame-lost", &[edit(NMI, "if is_nmi_entry(rip) &&", "if false && is_nmi_entry(rip) &&")]),
    // A trace event reserves its slot in the ring with a separate read and write.
    ("trace-reserve-non-atomic", &[
        edit(TRACE, r#""xadd [{ring} + {head}], {place}","#, r#""mov {place}, [{ring} + {head}]", "inc {place}", "mov [{ring} + {head}], {place}", "dec {place}","#),
    ]),
    // Too few slots are kept free for the records that are written without a check for room.
    ("trace-slack-too-small", &[edit(TRACE, "const SLACK: u64 = 4;", "const SLACK: u64 = 2;")]),
    // A system call beyond the table is recorded with its index in the table.
    ("trace-index-for-number", &[edit(CALLS, r#""mov rcx, rax", "jmp {recording}","#, r#""jmp {recording}","#)]),
    // A dropped trace event is not reported by the next event.
    ("trace-drop-unreported", &[edit(TRACE, "self.limit.set(0); return;", "return;")]),
];
