//! Checks the code instruction by instruction.

use core::mem::offset_of;

use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register, UsedMemory};

use super::{Code, PAGES, decode, installed, operand_offset, parameters, u32_at, u64_at};
use crate::config::{CONFIG_OFFSET, CONFIG_SIZE, DATA_SELECTOR};
use crate::{ApSlot, CodeLayout, StopAt, slot_state, stop_at};

/// Returns the memory that each instruction of a part uses.
fn used_memory(part: &[Instruction]) -> Vec<(Instruction, UsedMemory)> {
    let mut factory = InstructionInfoFactory::new();
    let mut used = Vec::new();
    for instruction in part {
        used.extend(factory.info(instruction).used_memory().iter().map(|memory| (*instruction, *memory)));
    }
    used
}

fn writes(access: OpAccess) -> bool {
    !matches!(access, OpAccess::None | OpAccess::NoMemAccess | OpAccess::Read | OpAccess::CondRead)
}

fn is_in_config(offset: u64) -> bool {
    (CONFIG_OFFSET as u64..(CONFIG_OFFSET + CONFIG_SIZE) as u64).contains(&offset)
}

/// Returns the position of the only instruction that matches.
fn position(part: &[Instruction], matches: impl Fn(&Instruction) -> bool) -> usize {
    let mut found = part.iter().enumerate().filter(|(_, instruction)| matches(instruction));
    let (position, _) = found.next().expect("no such instruction");
    assert!(found.next().is_none(), "more than one such instruction");
    position
}

fn writes_register(register: Register) -> impl Fn(&Instruction) -> bool {
    move |instruction| instruction.mnemonic() == Mnemonic::Mov && instruction.op0_register() == register
}

#[test]
fn entry_turns_interrupts_off_first() {
    for page in PAGES {
        let real = Code::of(&installed(page)).real;
        assert_eq!(real[0].mnemonic(), Mnemonic::Cli);
        assert_eq!(real[1].mnemonic(), Mnemonic::Cld);
    }
}

#[test]
fn each_part_decodes_to_its_end() {
    let layout = CodeLayout::of_blob();
    for page in PAGES {
        let code = Code::of(&installed(page));
        let parts = [(&code.real, layout.code32), (&code.protected, layout.code64), (&code.long, layout.end)];
        for (part, end) in parts {
            assert!(part.iter().all(|instruction| !instruction.is_invalid()));
            assert_eq!(part.last().unwrap().next_ip(), end as u64);
        }
    }
}

/// Near branches must stay in their part and target the first byte of an instruction.
#[test]
fn branches_stay_in_their_part() {
    let code = Code::of(&installed(0x8000));
    for part in [&code.real, &code.protected, &code.long] {
        let is_near = |kind| matches!(kind, OpKind::NearBranch32 | OpKind::NearBranch64);
        for branch in part.iter().filter(|instruction| is_near(instruction.op0_kind())) {
            let target = branch.near_branch_target();
            assert!(part.iter().any(|instruction| instruction.ip() == target), "{branch}");
        }
    }
    assert!(code.real.iter().all(|i| !i.is_jcc_short_or_near() && !i.is_jmp_short_or_near()));
}

/// In protected mode, a CPU also writes its row in the report three times: the first stage, the features that it lacks,
/// and the second stage.
#[test]
fn real_and_protected_mode_read_only_the_config() {
    let code = Code::of(&installed(0x8000));
    let parts =
        [(&code.real, Register::None, [].as_slice()), (&code.protected, Register::ESI, &[8, 0, 4, 8])];
    for (part, base, words) in parts {
        let used = used_memory(part);
        assert!(!used.is_empty());
        let mut written = Vec::new();
        for (instruction, memory) in used {
            if writes(memory.access()) {
                assert_eq!((memory.base(), memory.index()), (Register::EBP, Register::None), "{instruction}");
                written.push(memory.displacement());
                continue;
            }
            // The operands of the far jump and of the table loads. Loading a segment also reads the GDT.
            assert_eq!(memory.segment(), Register::DS, "{instruction}");
            assert_eq!((memory.base(), memory.index()), (base, Register::None), "{instruction}");
            assert!(is_in_config(memory.displacement()), "{instruction}");
        }
        assert_eq!(written, words);
    }
}

#[test]
fn long_mode_writes_only_the_claim_and_the_return_address() {
    let code = Code::of(&installed(0x8000));
    let mut written = Vec::new();
    for (instruction, memory) in used_memory(&code.long) {
        match memory.base() {
            Register::RSI => {
                assert!(is_in_config(memory.displacement()), "{instruction}");
                assert!(!writes(memory.access()), "{instruction} writes to the page");
            }
            Register::RBX => assert!(memory.displacement() < size_of::<ApSlot>() as u64, "{instruction}"),
            Register::RSP => assert_eq!(instruction.mnemonic(), Mnemonic::Push),
            // The id register of the APIC, whose page address was read from the config.
            Register::RDI => assert_eq!((memory.displacement(), writes(memory.access())), (0x20, false)),
            _ => panic!("{instruction} accesses memory outside page, slot and stack"),
        }
        if writes(memory.access()) {
            written.push((instruction.mnemonic(), memory.base()));
        }
    }
    assert_eq!(written, [(Mnemonic::Cmpxchg, Register::RBX), (Mnemonic::Push, Register::RSP)]);
}

/// The required order: PE alone first; then CR4, CR3 and EFER; last PG, together with all other bits of CR0.
#[test]
fn control_registers_get_their_parameters_in_order() {
    let bytes = installed(0x8000);
    let code = Code::of(&bytes);
    let expected = parameters(0x8000);

    let pe = position(&code.real, writes_register(Register::CR0));
    assert_eq!(code.real[pe - 1].mnemonic(), Mnemonic::Or);
    assert_eq!(code.real[pe - 1].immediate(1), 1);
    assert_eq!(pe + 2, code.real.len(), "only the far jump may follow");

    let part = &code.protected;
    let loaded = |position: usize| {
        let load = &part[position];
        assert_eq!((load.mnemonic(), load.op0_register()), (Mnemonic::Mov, Register::EAX));
        u32_at(&bytes, operand_offset(load))
    };
    let cr4 = position(part, writes_register(Register::CR4));
    let cr3 = position(part, writes_register(Register::CR3));
    let wrmsr = position(part, |instruction| instruction.mnemonic() == Mnemonic::Wrmsr);
    let cr0 = position(part, writes_register(Register::CR0));
    assert!(cr4 < cr3 && cr3 < wrmsr && wrmsr < cr0);
    assert_eq!(cr0 + 2, part.len(), "only the far jump may follow");
    assert_eq!(loaded(cr4 - 1), expected.cr4);
    assert_eq!(loaded(cr3 - 1), expected.cr3);
    assert_eq!(loaded(wrmsr - 2), expected.efer);
    assert_eq!(part[wrmsr - 3].immediate(1) as u32, 0xc000_0080);
    assert_eq!(
        (part[wrmsr - 1].op0_register(), part[wrmsr - 1].op1_register()),
        (Register::EDX, Register::EDX)
    );
    assert_eq!(loaded(cr0 - 1), expected.cr0);
}

/// All five data segment registers must be loaded, so that none keeps a real-mode base. 64-bit code must not load any
/// of them again.
#[test]
fn data_segments_become_flat() {
    let code = Code::of(&installed(0x8000));
    let loads = |part: &[Instruction]| -> Vec<Register> {
        let loads = part.iter().filter(|i| i.op0_register().is_segment_register());
        loads.map(|i| i.op0_register()).collect()
    };
    assert_eq!(loads(&code.real), [Register::DS]);
    let all = [Register::DS, Register::ES, Register::SS, Register::FS, Register::GS];
    assert_eq!(loads(&code.protected), all);
    assert_eq!(code.protected[0].op0_register(), Register::AX);
    assert_eq!(code.protected[0].immediate(1) as u16, DATA_SELECTOR);
    assert!(loads(&code.long).is_empty());
}

#[test]
fn claim_is_a_locked_exchange_from_offered_to_claimed() {
    let long = Code::of(&installed(0x8000)).long;
    let claim = position(&long, |instruction| instruction.mnemonic() == Mnemonic::Cmpxchg);
    let exchange = &long[claim];
    assert!(exchange.has_lock_prefix());
    assert_eq!(exchange.memory_base(), Register::RBX);
    assert_eq!(operand_offset(exchange), offset_of!(ApSlot, state));
    assert_eq!(exchange.op1_register(), Register::EDX);

    let immediate = |position: usize| (long[position].op0_register(), long[position].immediate(1) as u32);
    assert_eq!(immediate(claim - 2), (Register::EAX, slot_state::OFFERED));
    assert_eq!(immediate(claim - 1), (Register::EDX, slot_state::CLAIMED));
}

/// Before the claim, the code may read only the APIC id of a slot. A CPU whose claim fails must park.
#[test]
fn stack_and_argument_are_read_after_the_claim() {
    let long = Code::of(&installed(0x8000)).long;
    let claim = position(&long, |instruction| instruction.mnemonic() == Mnemonic::Cmpxchg);
    for (_, memory) in used_memory(&long[..claim]).iter().filter(|(_, m)| m.base() == Register::RBX) {
        assert_eq!(memory.displacement() as usize, offset_of!(ApSlot, apic_id));
    }

    let park = position(&long, |instruction| instruction.mnemonic() == Mnemonic::Hlt) - 1;
    assert_eq!(long[park].mnemonic(), Mnemonic::Cli);
    assert_eq!(long[park + 2].near_branch_target(), long[park].ip());
    assert_eq!(long[claim + 1].mnemonic(), Mnemonic::Jne);
    assert_eq!(long[claim + 1].near_branch_target(), long[park].ip());
    assert_eq!(park + 3, long.len());
}

/// The kernel is entered as if by a call: `rdi` is the argument; `rbp` and the return address are zero.
#[test]
fn entry_is_a_jump_with_a_zero_return_address() {
    let bytes = installed(0x8000);
    let long = Code::of(&bytes).long;
    let jump = position(&long, |instruction| instruction.is_jmp_near_indirect());
    let [stack, argument, frame, push] = &long[jump - 4..jump] else { unreachable!() };

    assert_eq!((stack.op0_register(), stack.memory_base()), (Register::RSP, Register::RBX));
    assert_eq!(operand_offset(stack), offset_of!(ApSlot, stack_top));
    assert_eq!((argument.op0_register(), argument.memory_base()), (Register::RDI, Register::RBX));
    assert_eq!(operand_offset(argument), offset_of!(ApSlot, argument));
    assert_eq!(frame.mnemonic(), Mnemonic::Xor);
    assert_eq!((frame.op0_register(), frame.op1_register()), (Register::EBP, Register::EBP));
    assert_eq!((push.mnemonic(), push.immediate(0)), (Mnemonic::Push, 0));
    assert_eq!(push.stack_pointer_increment(), -8);
    assert_eq!(u64_at(&bytes, operand_offset(&long[jump])), parameters(0x8000).entry);
}

#[test]
fn search_begins_at_the_slots_and_ends_after_their_count() {
    let bytes = installed(0x8000);
    let long = Code::of(&bytes).long;
    let expected = parameters(0x8000);
    let start = position(&long, writes_register(Register::RBX));
    assert_eq!(u64_at(&bytes, operand_offset(&long[start])), expected.slots);
    assert_eq!(long[start + 1].op0_register(), Register::ECX);
    assert_eq!(u32_at(&bytes, operand_offset(&long[start + 1])), expected.slot_count);

    let step = position(&long, |i| i.mnemonic() == Mnemonic::Add);
    assert_eq!((long[step].op0_register(), long[step].immediate(1)), (Register::RBX, 64));
}

/// A stopped CPU halts at the chosen place, after it has executed all code before that place.
#[test]
fn stopped_cpu_halts_at_the_place() {
    for place in [StopAt::RealMode, StopAt::ProtectedMode, StopAt::LongMode, StopAt::Claimed] {
        let mut bytes = installed(0x8000);
        let before = bytes;
        stop_at(&mut bytes, place);
        let CodeLayout { code32, checked, code64, claimed, .. } = CodeLayout::of_blob();
        let (at, bitness) = match place {
            StopAt::RealMode => (0, 16),
            StopAt::ProtectedMode => (checked, 32),
            StopAt::LongMode => (code64, 64),
            StopAt::Claimed => (claimed, 64),
        };
        assert!(code32 < checked && checked < code64 && code64 < claimed);
        let halt = decode(&bytes, bitness, at, at + 4);
        let found: Vec<_> = halt.iter().map(Instruction::mnemonic).collect();
        assert_eq!(found, [Mnemonic::Cli, Mnemonic::Hlt, Mnemonic::Jmp]);
        assert_eq!(halt[2].near_branch_target(), at as u64);
        assert_eq!((&bytes[..at], &bytes[at + 4..]), (&before[..at], &before[at + 4..]));
    }
}
