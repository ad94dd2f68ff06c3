# The 32-bit start, common to all boot protocols: sets up only what 64-bit Rust code needs, and calls the protocol's Rust
# function.
#
# On entry at `boot_start32`: 32-bit protected mode, flat segments, paging off, interrupts off, DF clear; edi = physical
# address of the loader's information; [boot_maker] = physical address of the protocol's Rust function; [boot_has_exit]
# = 1 if QEMU's exit device may be written to by default, which the command line can override, else 0; [boot_line] =
# physical address of the command line, or 0. No stack, the loader's GDT, .bss zeroed. Only the entry points of the
# protocols jump here.
#
# Ends the run with a message if the CPU lacks a required feature.
#
# When the Rust function is called: long mode with paging, NX and WP; the first 4 GiB of physical memory mapped
# with 2 MiB pages at 0 (for this code) and at PHYSMAP_BASE, the first GiB also at KERNEL_BASE; the kernel's code
# segment; the boot stack; edi = address of the loader's information. All these pages are writable and executable: Rust
# replaces the tables as soon as the frame allocator is set up.

.section .boot, "ax"
.code32

.globl boot_start32
boot_start32:
    # Check the features listed in the rows of `Feature`. This code needs none of them. There is no stack, so `.Lprint`
    # returns with a jump to ecx. cpuid overwrites eax, ebx, ecx and edx. edi = the loader's information; esi = the row;
    # ebp = the text before the next name in the message.
    mov     esi, offset {features}
    mov     ebp, offset lacks
.Lfeature:
    mov     eax, [esi + {feature_leaf}]
    and     eax, 0x80000000                 # this leaf returns the highest extended leaf
    cpuid
    cmp     eax, [esi + {feature_leaf}]
    jb      .Llacking
    mov     eax, [esi + {feature_leaf}]
    cpuid
    test    edx, [esi + {feature_mask}]
    jnz     .Lnext_feature
.Llacking:
    mov     ebx, ebp
    mov     ecx, offset .Lname
    jmp     .Lprint
.Lname:
    lea     ebx, [esi + {feature_name}]
    mov     ecx, offset .Lnamed
    jmp     .Lprint
.Lnamed:
    mov     ebp, offset comma
.Lnext_feature:
    add     esi, {feature_size}
    cmp     esi, offset {features} + {features_size}
    jb      .Lfeature
    mov     ebx, offset other_cpu
    cmp     ebp, offset comma
    je      boot_fail

    # The four page directories: 2048 large pages, 4 GiB.
    mov     ecx, offset boot_pd - {kernel_base}
    mov     eax, {large_page}
    xor     edx, edx
1:  mov     [ecx + edx * 8], eax
    add     eax, 0x200000
    inc     edx
    cmp     edx, 2048
    jb      1b

    # The page directory pointer table for the low addresses and the physical map.
    mov     ecx, offset boot_pdpt - {kernel_base}
    mov     eax, offset boot_pd - {kernel_base} + {table}
    xor     edx, edx
2:  mov     [ecx + edx * 8], eax
    add     eax, 0x1000
    inc     edx
    cmp     edx, 4
    jb      2b

    # The page directory pointer table for the kernel image: the first GiB is enough.
    mov     eax, offset boot_pd - {kernel_base} + {table}
    mov     ecx, offset boot_pdpt_high - {kernel_base}
    mov     [ecx + {kernel_pdpt_index} * 8], eax

    mov     ecx, offset boot_pml4 - {kernel_base}
    mov     eax, offset boot_pdpt - {kernel_base} + {table}
    mov     [ecx], eax
    mov     [ecx + {physmap_pml4_index} * 8], eax
    mov     eax, offset boot_pdpt_high - {kernel_base} + {table}
    mov     [ecx + {kernel_pml4_index} * 8], eax

    # Enter long mode: PAE, CR3, LME and NXE, then paging (SDM 3A, 10.8.5).
    mov     eax, {cr4}
    mov     cr4, eax
    mov     cr3, ecx
    mov     ecx, {ia32_efer}
    rdmsr
    or      eax, {efer}
    wrmsr
    mov     eax, {cr0}
    mov     cr0, eax

    # Compatibility mode until the far jump loads a 64-bit code segment.
    lgdt    [boot_gdtr]
    .byte   0xea                            # jmp far imm16:imm32
    .long   6f
    .word   {kernel_code}

    # Print the text at ebx and end the run like a panic. The entry points of the protocols jump here too.
.globl boot_fail
boot_fail:
    mov     ecx, offset .Lprint_verdict
    jmp     .Lprint
.Lprint_verdict:
    mov     ebx, offset verdict
    mov     ecx, offset .Lexit
    jmp     .Lprint
.Lexit:
    # The first "verdict=" on the command line decides whether there is an exit device. Rust code is not running yet, so
    # nothing has parsed the line. esi = the next byte; ecx = how many are left.
    mov     esi, [boot_line - {kernel_base}]
    test    esi, esi
    jz      .Ldecided
    mov     ecx, {line_max}
.Lverdict:
    cmp     byte ptr [esi], 0
    je      .Ldecided
    cmp     dword ptr [esi], {verdict_0}
    jne     .Lnext_byte
    cmp     dword ptr [esi + 4], {verdict_4}
    je      .Lvalue
.Lnext_byte:
    inc     esi
    dec     ecx
    jnz     .Lverdict
    jmp     .Ldecided
.Lvalue:
    xor     eax, eax
    cmp     dword ptr [esi + 8], {exit}
    sete    al
    mov     [boot_has_exit - {kernel_base}], eax
.Ldecided:
    # Without QEMU's exit device, the port may belong to another device.
    cmp     dword ptr [boot_has_exit - {kernel_base}], 0
    je      .Lhalt
    mov     edx, {exit_port}
    mov     eax, {exit_panic}
    out     dx, eax
.Lhalt:
    hlt
    jmp     .Lhalt

    # Write the text at ebx to COM1, then jump to ecx. This code does not initialise the UART or wait between bytes.
    # Emulators accept that.
.Lprint:
    mov     edx, {com1}
.Lbyte:
    mov     al, [ebx]
    test    al, al
    jz      .Lreturn
    out     dx, al
    inc     ebx
    jmp     .Lbyte
.Lreturn:
    jmp     ecx

.code64
6:  xor     eax, eax
    mov     ds, eax
    mov     es, eax
    mov     ss, eax
    mov     fs, eax
    mov     gs, eax
    mov     edi, edi                        # the address of the loader's information, zero-extended
    movabs  rsp, offset __boot_stack_top
    xor     ebp, ebp                        # ends the backtrace
    push    rbp                             # return address 0; rsp is aligned as after a call
    mov     eax, [boot_maker - {kernel_base}]
    movabs  rcx, {kernel_base}
    add     rax, rcx
    jmp     rax

.balign 8
boot_gdt:
    .quad   0
    .quad   {gdt_kernel_code}
boot_gdtr:
    .word   boot_gdtr - boot_gdt - 1
    .long   boot_gdt
lacks:
    .asciz  "@ringside panic cpu=0 message=\"this CPU lacks "
comma:
    .asciz  ", "
other_cpu:
    .asciz  ": choose -cpu qemu64 or -cpu max\"\n"
verdict:
    .asciz  "@ringside verdict outcome=panic records=0 warnings=0\n"

.section .bss
.balign 4096
boot_pml4:      .skip 4096
boot_pdpt:      .skip 4096
boot_pdpt_high: .skip 4096
boot_pd:        .skip 4 * 4096
.globl boot_maker
boot_maker:     .skip 4
.globl boot_has_exit
boot_has_exit:  .skip 4
.globl boot_line
boot_line:      .skip 4

.text
