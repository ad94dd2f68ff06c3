# From the PVH entry to 64-bit Rust code: an environment for Rust, nothing more.
#
# Given (Xen's x86/HVM direct boot ABI): 32-bit protected mode, flat segments, paging off, interrupts off,
# DF unknown, ebx = physical address of the start info. No stack, no GDT of ours, .bss zeroed by the loader.
#
# Left to `pvh_start`: long mode with paging, NX and WP; the first 4 GiB of physical memory mapped with 2 MiB
# pages at 0 (this code), at PHYSMAP_BASE and, its first GiB, at KERNEL_BASE; the kernel's code segment; the
# boot stack; edi = ebx. These tables are writable and executable throughout: Rust replaces them as soon as
# it has frames for others.

.section .boot, "ax"
.code32

.globl pvh_start32
pvh_start32:
    cld

    # Is this a 64-bit CPU at all? ebx is precious, and cpuid writes it.
    mov     edi, ebx
    mov     eax, 0x80000000
    cpuid
    cmp     eax, 0x80000001
    jb      4f
    mov     eax, 0x80000001
    cpuid
    bt      edx, 29                         # LM: long mode
    jnc     4f
    bt      edx, 20                         # NX: the W^X tables need it
    jnc     4f

    # The page directories: 2048 large pages, 4 GiB.
    mov     ecx, offset boot_pd - {kernel_base}
    mov     eax, {large_page}
    xor     edx, edx
1:  mov     [ecx + edx * 8], eax
    add     eax, 0x200000
    inc     edx
    cmp     edx, 2048
    jb      1b

    # Their directory pointer table, for the low addresses and the physical map ...
    mov     ecx, offset boot_pdpt - {kernel_base}
    mov     eax, offset boot_pd - {kernel_base} + {table}
    xor     edx, edx
2:  mov     [ecx + edx * 8], eax
    add     eax, 0x1000
    inc     edx
    cmp     edx, 4
    jb      2b

    # ... and the one for the kernel's image, of which the first GiB is enough.
    mov     eax, offset boot_pd - {kernel_base} + {table}
    mov     ecx, offset boot_pdpt_high - {kernel_base}
    mov     [ecx + {kernel_pdpt_index} * 8], eax

    mov     ecx, offset boot_pml4 - {kernel_base}
    mov     eax, offset boot_pdpt - {kernel_base} + {table}
    mov     [ecx], eax
    mov     [ecx + {physmap_pml4_index} * 8], eax
    mov     eax, offset boot_pdpt_high - {kernel_base} + {table}
    mov     [ecx + {kernel_pml4_index} * 8], eax

    # Long mode: PAE, the tables, LME and NXE, then paging (SDM 3A, 10.8.5).
    mov     eax, {cr4}
    mov     cr4, eax
    mov     cr3, ecx
    mov     ecx, {ia32_efer}
    rdmsr
    or      eax, {efer}
    wrmsr
    mov     eax, {cr0}
    mov     cr0, eax

    # Compatibility mode; the far jump loads a 64-bit code segment.
    lgdt    [boot_gdtr]
    .byte   0xea                            # jmp far imm16:imm32
    .long   3f
    .word   {kernel_code}

    # No long mode or no NX: say so on COM1, byte by byte, and end the run as a panic does.
4:  mov     esi, offset no_long_mode
    mov     edx, {com1}
5:  lodsb
    test    al, al
    jz      6f
    out     dx, al
    jmp     5b
6:  mov     edx, {exit_port}
    mov     eax, {exit_panic}
    out     dx, eax
7:  hlt
    jmp     7b

.code64
3:  xor     eax, eax
    mov     ds, eax
    mov     es, eax
    mov     ss, eax
    mov     fs, eax
    mov     gs, eax
    mov     edi, edi                        # the start info's address, zero-extended
    movabs  rsp, offset __boot_stack_top
    xor     ebp, ebp                        # the end of the backtrace
    push    rbp                             # alignment as after a call, and a return address that is none
    movabs  rax, offset {pvh_start}
    jmp     rax

.balign 8
boot_gdt:
    .quad   0
    .quad   {gdt_kernel_code}
boot_gdtr:
    .word   boot_gdtr - boot_gdt - 1
    .long   boot_gdt
no_long_mode:
    .asciz  "@ringside panic cpu=unknown message=\"this CPU lacks 64-bit mode or NX: choose -cpu qemu64 or -cpu max\"\n@ringside verdict outcome=panic records=0 warnings=0\n"

.section .bss
.balign 4096
boot_pml4:      .skip 4096
boot_pdpt:      .skip 4096
boot_pdpt_high: .skip 4096
boot_pd:        .skip 4 * 4096

.text
