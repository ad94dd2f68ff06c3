# From the PVH entry to 64-bit Rust code: an environment for Rust, nothing more.
#
# Given (Xen's x86/HVM direct boot ABI): 32-bit protected mode, flat segments, paging off, interrupts off,
# DF undefined, ebx = physical address of the start info. No stack, the loader's GDT, .bss zeroed by the loader.
#
# State in which `pvh_start` is entered: long mode with paging, NX and WP; the first 4 GiB of physical memory mapped
# with 2 MiB pages at 0 (for this code) and at PHYSMAP_BASE, the first GiB also at KERNEL_BASE; the kernel's code
# segment; the boot stack; edi = address of the start info. All these pages are writable and executable: Rust replaces
# the tables as soon as the frame allocator is set up.

.section .boot, "ax"
.code32

.globl pvh_start32
pvh_start32:
    cld

    # Check for long mode and NX. cpuid overwrites ebx, so the start info's address moves to edi.
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

    # The one for the kernel's image: the first GiB is enough.
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
    .long   3f
    .word   {kernel_code}

    # No long mode or no NX: report it on COM1 and end the run like a panic. The UART is not set up, and no byte waits
    # for the one before it: emulators accept that.
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
    xor     ebp, ebp                        # ends the backtrace
    push    rbp                             # return address 0; rsp is aligned as after a call
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
