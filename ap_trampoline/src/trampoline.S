# Application processor start-up: from the SIPI in real mode to the kernel's 64-bit entry point.
#
# The kernel treats this code as data. `install` copies it to a 4 KiB page below 1 MiB and fills in `Config` after it;
# only that copy is executed. The code does not depend on the address of the page: it computes that address from CS,
# keeps it in ESI, and addresses every field of `Config` relative to ESI.
#
# State on entry (Intel SDM vol. 3A, 10.4.4 and table 10-1; AMD APM vol. 2, 14.1.3):
#   1. Real mode, interrupts off; CS = page >> 4, IP = 0; the other segments have base 0.
#   2. Caches are off (CR0.CD and CR0.NW), paging is off, CR4 = 0.
#   3. There is no stack. No instruction uses one before RSP is loaded from the claimed slot.
#   4. Any number of CPUs may run this code at the same time. They share the page and only read it.
#
# Neither an instruction nor the CPU itself writes to the page, which is mapped read-only while paging is on. The only
# memory that this code writes is this CPU's row of the report, the claimed slot's state, and the top of the slot's stack.
#
# Every operand in braces is a `const` that `lib.rs` passes. `config_*` are offsets from the page's start.

.globl ap_trampoline_start
.globl ap_trampoline_code32
.globl ap_trampoline_checked
.globl ap_trampoline_code64
.globl ap_trampoline_claimed
.globl ap_trampoline_end

.balign 16
.code16
ap_trampoline_start:
    cli
    cld

    # A real-mode segment starts at its selector times 16. Load DS to read the page, and keep the page's address in ESI.
    movw %cs, %ax
    movw %ax, %ds
    xorl %esi, %esi
    movw %ax, %si
    shll $4, %esi

    # No NMI or exception can be handled before the kernel has loaded its own IDT, because there is no stack. With an
    # IDT limit of zero, each of them causes a shutdown. Otherwise an NMI could run the real-mode handler of vector 2 in
    # protected mode. INIT has masked this CPU's LINT1, so the only possible NMI is one sent by another CPU.
    lidtl {config_idtr}
    lgdtl {config_gdtr}

    # Set PE in CR0 and keep the other bits as INIT left them. The caches stay off until CR0 is loaded completely below:
    # CD and NW must be cleared together, because NW without CD raises #GP.
    movl %cr0, %eax
    orl ${cr0_pe}, %eax
    movl %eax, %cr0

    # Protected mode, still with real-mode segments: the base of DS is the page, so the far pointer is addressed by its
    # offset in the page. The jump loads the 32-bit code segment.
    ljmpl *{config_far32}

.code32
ap_trampoline_code32:
    # 32-bit protected mode, paging off, CS flat, ESI = the page's address. Make the data segments flat too, including
    # FS and GS, so that their bases are 0.
    movw ${data_selector}, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw %ax, %fs
    movw %ax, %gs

    # EBP = the address of this CPU's row of the report, which the id from leaf 1 selects. Paging is off, so the address
    # is physical. Report that the CPU has reached protected mode.
    movl ${cpuid_features}, %eax
    cpuid
    shrl $24, %ebx
    shll ${report_row_shift}, %ebx
    movl {config_report}(%esi), %ebp
    addl %ebx, %ebp
    movl ${reached_protected_mode}, {report_reached}(%ebp)
ap_trampoline_checked:

    # Check that the CPU has the features that the kernel needs, before any code uses one of them. EDI = missing
    # features of leaf 0x80000001, EDX = missing features of leaf 1. A CPU that does not have leaf 0x80000001 has none
    # of its features.
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

    # Report the missing features, and park permanently.
    movl %edx, {report_basic}(%ebp)
    movl %edi, {report_extended}(%ebp)
2:
    cli
    hlt
    jmp 2b
3:

    # Load all bits of CR4 and of the registers below, so that no firmware setting remains. Long mode needs PAE. LA57 is
    # clear because the bring-up page tables have four levels.
    movl {config_cr4}(%esi), %eax
    movl %eax, %cr4

    # Load the bring-up PML4. It lies below 4 GiB because MOV to CR3 takes only 32 bits here.
    movl {config_cr3}(%esi), %eax
    movl %eax, %cr3

    # EFER: LME, and NXE if the page tables use NX, which would be a reserved bit without NXE.
    movl ${efer_msr}, %ecx
    movl {config_efer}(%esi), %eax
    xorl %edx, %edx
    wrmsr

    # Report that the CPU is about to enable paging. Afterwards the report is not mapped.
    movl ${reached_paging}, {report_reached}(%ebp)

    # CR0: PG activates long mode (EFER.LMA); WP enforces the read-only mapping of this page in ring 0; CD and NW are
    # clear, so the caches are on from here.
    movl {config_cr0}(%esi), %eax
    movl %eax, %cr0

    # Compatibility mode, paging on. The page is mapped at its physical address, so the next instruction, the far
    # pointer and the GDT stay at the same addresses. The GDT is now read-only. Its Accessed bits are preset, because
    # otherwise a segment load would write to the GDT and fault.
    ljmpl *{config_far64}(%esi)

.code64
ap_trampoline_code64:
    # 64-bit mode, ring 0, interrupts off, IDT limit 0, no stack. The upper half of RSI is undefined after the mode
    # switch; writing ESI clears it. Now RSI = the page's address.
    movl %esi, %esi

    # EDI = this CPU's APIC id, read from its local APIC, because IPIs are sent to that id. CPUID may report a different
    # id, or only 8 bits of the id. The id depends on the APIC mode, so first switch to the mode of the BSP's APIC. A
    # CPU without x2APIC mode stays in xAPIC mode, because setting EXTD would fault; the kernel reports such a CPU.
    cmpl $0, {config_x2apic}(%rsi)
    je 1f
    movl ${cpuid_features}, %eax
    cpuid
    testl ${cpuid_x2apic}, %ecx
    jz 1f

    # The APIC has received the SIPI, so it is enabled, and EXTD may be set. INIT does not clear EXTD.
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
    # Claim the slot: OFFERED -> CLAIMED (invariant: SLOT-ONCE). A slot in any other state cannot be claimed.
    movl ${slot_offered}, %eax
    movl ${slot_claimed}, %edx
    lock cmpxchgl %edx, {slot_state}(%rbx)
    jne 5f
ap_trampoline_claimed:

    # From here on, only this CPU uses the slot's stack and argument.
    movq {slot_stack_top}(%rbx), %rsp
    movq {slot_argument}(%rbx), %rdi

    # Enter the kernel as if by a call: push a return address on the 16-byte aligned stack. Return address and frame
    # pointer are zero, so that a backtrace ends here.
    xorl %ebp, %ebp
    pushq $0
    jmpq *{config_entry}(%rsi)

5:
    # No slot for this CPU, or its slot cannot be claimed: park permanently. An NMI here would cause a shutdown, so the
    # kernel sends NMIs only to CPUs that are online, never with the shorthand "all excluding self".
    cli
    hlt
    jmp 5b
ap_trampoline_end:

# The assembler rejects an `.org` that moves backwards, so code that overlaps `Config` does not assemble.
.org ap_trampoline_start + {config_offset}
