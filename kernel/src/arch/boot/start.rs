//! The common start of all boot protocols, from 32-bit mode to the protocol's Rust function.

use core::mem::offset_of;

use crate::features::{Feature, REQUIRED};
use crate::layout::{KERNEL_BASE, PHYSMAP_BASE};

/// The features that `start.S` checks. They are in `.boot`, which is linked at its physical address.
#[unsafe(link_section = ".boot.features")]
static FEATURES: [Feature; REQUIRED.len()] = REQUIRED;

/// The option on the command line that requests the exit device, in words.
const VERDICT_EXIT: [u32; 3] = {
    let text = b"verdict=exit";
    let (words, []) = text.as_chunks::<4>() else { panic!("the text is not a number of words") };
    [u32::from_le_bytes(words[0]), u32::from_le_bytes(words[1]), u32::from_le_bytes(words[2])]
};

core::arch::global_asm!(
    include_str!("start.S"),
    line_max = const kernel_abi::boot::COMMAND_LINE_MAX,
    verdict_0 = const VERDICT_EXIT[0],
    verdict_4 = const VERDICT_EXIT[1],
    exit = const VERDICT_EXIT[2],
    features = sym FEATURES,
    features_size = const size_of_val(&REQUIRED),
    feature_size = const size_of::<Feature>(),
    feature_leaf = const offset_of!(Feature, leaf),
    feature_mask = const offset_of!(Feature, mask),
    feature_name = const offset_of!(Feature, name),
    kernel_base = const KERNEL_BASE,
    // Entry flags: present and writable. `large_page` also sets PS, which selects a 2 MiB page (SDM 3A, 4.5.4).
    table = const 0x03,
    large_page = const 0x83,
    kernel_pml4_index = const KERNEL_BASE >> 39 & 511,
    kernel_pdpt_index = const KERNEL_BASE >> 30 & 511,
    physmap_pml4_index = const PHYSMAP_BASE >> 39 & 511,
    cr4 = const crate::arch::cpu::control::BOOT_CR4.bits(),
    cr0 = const crate::arch::cpu::control::BOOT_CR0.bits(),
    efer = const crate::arch::cpu::control::BOOT_EFER.bits(),
    ia32_efer = const crate::arch::cpu::msr::IA32_EFER,
    kernel_code = const crate::selectors::KERNEL_CODE.0,
    gdt_kernel_code = const crate::selectors::GDT_WORDS[1],
    com1 = const crate::arch::devices::uart::COM[0],
    exit_port = const kernel_abi::verdict::DEBUG_EXIT_PORT,
    exit_panic = const kernel_abi::verdict::Verdict::Panic as u32,
);
