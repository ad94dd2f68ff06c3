# The entry point for the UEFI loader (`kernel/efi`): continues with the common start (start.S).
#
# On entry: 32-bit protected mode, flat segments, paging off, CR4 and EFER 0, interrupts off, DF clear, an IDT without
# gates, ebx = physical address of the `Handover`. No stack, the loader's GDT, .bss zeroed by the loader. The loader has
# exited boot services and has checked that usable memory contains the image.

.section .boot, "ax"
.code32

.globl uefi_start32
uefi_start32:
    mov     edi, ebx
    mov     dword ptr [boot_maker - {kernel_base}], offset {uefi_start} - {kernel_base}
    lea     esi, [ebx + {command_line}]
    mov     [boot_line - {kernel_base}], esi
    jmp     boot_start32

.code64
.text
