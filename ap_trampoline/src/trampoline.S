# Application processor start-up: from the SIPI in real mode to the kernel's 64-bit entry.
#
# This is data for the kernel. `install` copies it into a 4 KiB page below 1 MiB and fills in `Config`
# after it; only that copy is executed. Nothing here depends on the page's address: the code finds
# its page in CS, keeps its address in ESI, and reaches every field of `Config` from there.
#
# What holds on entry (Intel SDM vol. 3A, 10.4.4 and table 10-1; AMD APM vol. 2, 14.1.3):
#   1. Real mode, interrupts off; CS = page >> 4, IP = 0; the other segments have base 0.
#   2. Caches are off (CR0.CD and CR0.NW), paging is off, CR4 = 0.
#   3. There is no stack. No instruction uses one before RSP is loaded from the claimed slot.
#   4. Any number of CPUs run this code at once. They share the page and only read it.
#
# Neither an instruction nor the CPU writes to the page: while paging is on it is mapped read-only.
# The only memory that this code writes is the claimed slot's state and the top of the slot's stack, or this
# CPU's row of the report if it lacks a feature.
#
# Every operand in braces is a `const` that `lib.rs` passes. `config_*` are offsets from the page's start.

.globl ap_trampoline_start
.globl ap_trampoline_code32
.globl ap_trampoline_code64
.globl ap_trampoline_end

.balign 16
.code16
ap_trampoline_start:
    cli
    cld

    # Real mode addresses are CS << 4: DS makes the page readable, ESI keeps its address for later.
    movw %cs, %ax
    movw %ax, %ds
    xorl %esi, %esi
    movw %ax, %si
    shll $4, %esi

    # No NMI or exception can be handled before the kernel has loaded its own IDT: there is no stack.
    # With an IDT limit of zero each of them is a shutdown. Otherwise an NMI would run the handler of
    # real-mode vector 2, in a mode for which it is not written. INIT has masked this CPU's LINT1, so
    # only an NMI that another CPU sends can arrive.
    lidtl {config_idtr}
    lgdtl {config_gdtr}

    # This adds PE to CR0 as INIT left it. The caches stay off until all of CR0 is loaded below: CD and
    # NW must be cleared together, because NW without CD is a general protection fault.
    movl %cr0, %eax
    orl ${cr0_pe}, %eax
    movl %eax, %cr0

    # Protected mode with the segments of real mode: DS still has the page as its base, so the far
    # pointer is addressed by its offset in the page. The jump loads the 32-bit code segment.
    ljmpl *{config_far32}

.code32
ap_trampoline_code32:
    # 32-bit protected mode, paging off, CS flat. ESI = the page. Make the data segments flat too, FS
    # and GS included, so that their bases are 0.
    movw ${data_selector}, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw %ax, %fs
    movw %ax, %gs

    # Check the features that the kernel needs, before any of them is used: the code so far, and this, uses
    # none. EDI = those of leaf 0x80000001 that are missing, EDX = those of leaf 1. A CPU without the first
    # leaf has none of its features.
    movl ${cpuid_extended_max}, %eax
    cpuid
    xorl %edi, %edi
    cmpl ${cpuid_extended}, %eax
    jb 1f
    movl ${cpuid_extended}, %eax
    cpuid
    movl %edx, %edi
1:
    movl ${cpuid_features}, %eax
    cpuid
    notl %edx
    andl {config_basic}(%esi), %edx
    notl %edi
    andl {config_extended}(%esi), %edi
    movl %edx, %eax
    orl %edi, %eax
    jz 3f

    # Report them in the row of the id in leaf 1, and park permanently. The row is addressed physically.
    shrl $24, %ebx
    movl {config_report}(%esi), %ecx
    movl %edx, {report_basic}(%ecx,%ebx,{report_row})
    movl %edi, {report_extended}(%ecx,%ebx,{report_row})
2:
    cli
    hlt
    jmp 2b
3:

    # All bits of CR4, and of the registers below, are loaded, so that none of the firmware's settings
    # remains. Long mode needs PAE; LA57 is clear, because the bring-up tables have four levels.
    movl {config_cr4}(%esi), %eax
    movl %eax, %cr4

    # The bring-up PML4, below 4 GiB because MOV to CR3 takes 32 bits here.
    movl {config_cr3}(%esi), %eax
    movl %eax, %cr3

    # EFER: LME, and NXE if the tables have NX bits, which would be reserved bits without it.
    movl ${efer_msr}, %ecx
    movl {config_efer}(%esi), %eax
    xorl %edx, %edx
    wrmsr

    # CR0: PG activates long mode (EFER.LMA); WP makes the read-only mapping of this page apply to ring
    # 0; CD and NW are clear, so the caches are on from here.
    movl {config_cr0}(%esi), %eax
    movl %eax, %cr0

    # Compatibility mode, paging on. The page is mapped at its physical address, so the next
    # instruction, the far pointer and the GDT keep their addresses. The GDT is read-only now: its
    # Accessed bits are preset, because otherwise a segment load would write to it and fault.
    ljmpl *{config_far64}(%esi)

.code64
ap_trampoline_code64:
    # 64-bit mode, ring 0, interrupts off, IDT limit 0, no stack. The upper half of RSI is undefined
    # after the change of mode; writing ESI clears it. RSI = the page.
    movl %esi, %esi

    # EDI = this CPU's own APIC id, read from its APIC: a SIPI goes to that id. CPUID may report another,
    # or only 8 bits of it. The id depends on the mode, so the APIC first enters the mode that the BSP's
    # has. A CPU that has no x2APIC mode stays in xAPIC mode, because setting EXTD would fault; the kernel
    # reports it.
    cmpl $0, {config_x2apic}(%rsi)
    je 1f
    movl ${cpuid_features}, %eax
    cpuid
    testl ${cpuid_x2apic}, %ecx
    jz 1f

    # The APIC is enabled, because it has received the SIPI. From there EXTD may be set; INIT does not
    # clear it.
    movl ${apic_base_msr}, %ecx
    rdmsr
    orl ${apic_base_extd}, %eax
    wrmsr
    movl ${x2apic_id_msr}, %ecx
    rdmsr
    movl %eax, %edi
    jmp 2f
1:
    # xAPIC mode: bits 31:24 of the id register.
    movq {config_apic_registers}(%rsi), %rdi
    movl {apic_id_register}(%rdi), %edi
    shrl $24, %edi
2:

    # RBX = the slot with this APIC id. No id occurs twice, so the first match decides.
    movq {config_slots}(%rsi), %rbx
    movl {config_slot_count}(%rsi), %ecx
3:
    testl %ecx, %ecx
    jz 5f
    cmpl %edi, {slot_apic_id}(%rbx)
    je 4f
    addq ${slot_size}, %rbx
    decl %ecx
    jmp 3b
4:
    # Claim it: OFFERED -> CLAIMED (invariant: SLOT-ONCE). A slot in any other state cannot be claimed.
    movl ${slot_offered}, %eax
    movl ${slot_claimed}, %edx
    lock cmpxchgl %edx, {slot_state}(%rbx)
    jne 5f

    # From here on only this CPU uses the stack and the argument.
    movq {slot_stack_top}(%rbx), %rsp
    movq {slot_argument}(%rbx), %rdi

    # Entry as by a call: a return address on a stack that was 16-byte aligned before it. It is zero,
    # as is the frame pointer, so that a backtrace ends here.
    xorl %ebp, %ebp
    pushq $0
    jmpq *{config_entry}(%rsi)

5:
    # No slot, or the slot is closed: park permanently. An NMI here is a shutdown, so the kernel sends
    # NMIs only to CPUs that are online, never with the shorthand "all excluding self".
    cli
    hlt
    jmp 5b
ap_trampoline_end:

# The assembler rejects an `.org` that moves backwards: code that reaches into `Config` does not assemble.
.org ap_trampoline_start + {config_offset}
