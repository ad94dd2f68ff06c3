# The Multiboot2 header and entry point.
#
# On entry (Multiboot2 specification, 3.3): 32-bit protected mode, flat segments, paging off, interrupts off, eax = the
# loader's magic number, ebx = physical address of the boot information. No stack, the loader's GDT, .bss zeroed by the
# loader. GRUB loads the image only into usable memory, so this code does not check the memory.
#
# Continues with the common start (start.S), with 0 as the address if the loader is not a Multiboot2 loader.

# The loader searches the first 32 KiB of the file for the header. `.boot` is at the start of the file.
.section .boot.header, "a"
.balign 8
multiboot2_header:
    .long   {header_magic}
    .long   {i386}
    .long   multiboot2_header_end - multiboot2_header
    .long   -({header_magic} + {i386} + (multiboot2_header_end - multiboot2_header))

    # The entry address. Without this tag the loader would use the ELF file's entry point, which is the PVH entry point.
    .word   {entry_tag}, 0
    .long   12
    .long   multiboot2_start32

    # A frame buffer with 32 bits per pixel, of any size. The tag is optional: without a graphics card the loader starts
    # the kernel without a frame buffer.
    .balign 8
    .word   {frame_buffer_tag}, {optional}
    .long   20
    .long   0, 0, 32

    # End of the tags.
    .balign 8
    .word   0, 0
    .long   8
multiboot2_header_end:

.section .boot, "ax"
.code32

multiboot2_start32:
    cld
    mov     dword ptr [boot_maker - {kernel_base}], offset {multiboot2_start} - {kernel_base}
    xor     edi, edi
    cmp     eax, {loader_magic}
    jne     boot_start32
    mov     edi, ebx

    # Find the command line's tag. The boot information consists of its size, a reserved word and the tags. Each tag
    # consists of its type, its size and its contents, padded to 8 bytes. The last tag has type 0. ecx = end of the boot
    # information, esi = current tag.
    mov     ecx, ebx
    add     ecx, [ebx]
    jc      boot_start32
    lea     esi, [ebx + 8]
.Ltag:
    cmp     esi, ecx
    jae     boot_start32
    cmp     dword ptr [esi], {command_line_tag}
    je      .Lcommand_line
    cmp     dword ptr [esi], 0
    je      boot_start32
    mov     eax, [esi + 4]
    add     eax, 7
    and     eax, -8
    jz      boot_start32
    add     esi, eax
    jc      boot_start32
    jmp     .Ltag
.Lcommand_line:
    add     esi, 8
    mov     [boot_line - {kernel_base}], esi
    jmp     boot_start32

.code64
.text
