# The crossing from the firmware to the kernel. `leave.rs` copies this code to a page of its own, after the `Crossing`.
#
# On entry (the System V convention, called once): 64-bit mode at CPL 0 with the firmware's page tables, GDT, IDT and
# stack, after `exit_boot_services`; rdi = address of the page, below 4 GiB, mapped at its physical address, readable
# and executable. Interrupts may be on. CR0, CR4 and EFER have the firmware's values.
#
# On the jump to the kernel: the state that `uefi.S` requires. Only this page and the copy of the image have been read,
# and only the image's range has been written. The firmware's memory is no longer used, so the image may overwrite it.
#
# An NMI or a machine check during this code shuts the machine down: no IDT would be valid in both modes.

.text
.code64
.globl ringside_leave_start
ringside_leave_start:
    endbr64                                 # with CET the firmware may require it at the target of a call
    cli
    cld
    mov     rbx, rdi

    # From here on, the firmware's GDT and IDT are no longer used. Its page tables are used until paging is off.
    lidt    [rbx + {idt}]
    lgdt    [rbx + {gdt}]

    # Clear what must be clear before paging is turned off (PCIDE; SDM 3A, 2.5), what can be cleared only in 64-bit mode
    # (bits 63:32), and what would change the meaning of the code below (CET). PAE and LA57 cannot change while paging
    # is on.
    mov     rax, cr4
    and     eax, {cr4_fixed}
    mov     cr4, rax

    # Compatibility mode: the segment is flat, and the page is below 4 GiB, so that eip and ebx stay valid.
    jmp     fword ptr [rbx + {far_pointer}]

.code32
.globl ringside_leave_32
ringside_leave_32:
    # fs and gs too: a null selector would not clear their bases on AMD's CPUs.
    mov     eax, {data_selector}
    mov     ds, eax
    mov     es, eax
    mov     ss, eax
    mov     fs, eax
    mov     gs, eax

    # Paging off, which also ends IA-32e mode (SDM 3A, 10.8.5.4). Now CR4 and EFER can be cleared: LA57, PAE, LME, NXE.
    mov     eax, {cr0}
    mov     cr0, eax
    xor     eax, eax
    xor     edx, edx
    mov     cr4, eax
    mov     ecx, {ia32_efer}
    wrmsr

    # Move the image to where it is linked.
    mov     esi, [ebx + {source}]
    mov     edi, [ebx + {destination}]
    mov     ecx, [ebx + {length}]
    rep movsb

    mov     eax, [ebx + {entry}]
    mov     ebx, [ebx + {handover}]
    jmp     eax
.globl ringside_leave_end
ringside_leave_end:
.code64
