# The PVH entry point: checks the machine's memory, and continues with the common start (start.S).
#
# On entry (Xen's x86/HVM direct boot ABI): 32-bit protected mode, flat segments, paging off, interrupts off,
# DF undefined, ebx = physical address of the start info. No stack, the loader's GDT, .bss zeroed by the loader.
#
# Ends the run with a message if the machine has too little memory.

.section .boot, "ax"
.code32

.globl pvh_start32
pvh_start32:
    cld
    mov     edi, ebx
    mov     dword ptr [boot_maker - {kernel_base}], offset {pvh_start} - {kernel_base}
    mov     dword ptr [boot_has_exit - {kernel_base}], 1

    # Usable memory must contain the image and the part above it that the firmware overwrites. Rust code reports a start
    # info that is invalid or has no memory map below 4 GiB.
    cmp     dword ptr [edi + {info_magic}], {magic}
    jne     .Lstart
    cmp     dword ptr [edi + {info_line} + 4], 0
    jne     1f
    mov     eax, [edi + {info_line}]
    mov     [boot_line - {kernel_base}], eax
1:  cmp     dword ptr [edi + {info_version}], 1
    jb      .Lstart
    cmp     dword ptr [edi + {info_memmap} + 4], 0
    jne     .Lstart
    mov     esi, [edi + {info_memmap}]
    mov     ecx, [edi + {info_entries}]
    test    ecx, ecx
    jz      .Lstart
    mov     eax, {entry_stride}
    mul     ecx
    add     eax, esi
    adc     edx, 0
    jnz     .Lstart                         # the memory map ends above 4 GiB
.Lregion:
    sub     ecx, 1
    jb      .Ltoo_little
    cmp     dword ptr [esi + {entry_type}], {ram}
    jne     .Lnext_region
    cmp     dword ptr [esi + {entry_start} + 4], 0
    jne     .Lnext_region
    mov     eax, [esi + {entry_start}]
    cmp     eax, offset __boot_start
    ja      .Lnext_region
    mov     edx, [esi + {entry_size} + 4]
    add     eax, [esi + {entry_size}]
    adc     edx, 0
    jnz     .Lstart                         # the region ends above 4 GiB
    cmp     eax, {memory_end}
    jae     .Lstart
.Lnext_region:
    add     esi, {entry_stride}
    jmp     .Lregion
.Ltoo_little:
    mov     ebx, offset too_little_memory
    jmp     boot_fail
.Lstart:
    jmp     boot_start32

too_little_memory:
    .asciz  "@ringside panic cpu=0 message=\"the machine has too little memory for the kernel image: give it at least 4 MiB\"\n"

.code64
.text
