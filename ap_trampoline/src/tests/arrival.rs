//! Executes the code in the emulator: tests that it finds its page, that each CPU gets its own slot, and which CPUs
//! park.

use core::sync::atomic::Ordering;

use iced_x86::{Mnemonic, Register};

use super::machine::{Apic, End, Machine};
use super::{Code, PAGES, installed, parameters};
use crate::{ApSlot, Parameters, install, slot_state};

const PAGE: u32 = 0x8000;
const STACK_TOP: u64 = 0xffff_8000_0100_0000;
const ARGUMENT: u64 = 0xffff_8000_dead_b000;

/// IA32_APIC_BASE of an AP that has received a SIPI: the APIC is enabled, in xAPIC mode.
const XAPIC_MODE: u64 = 0xfee0_0800;
/// IA32_APIC_BASE of an AP whose APIC is enabled and in x2APIC mode.
const X2APIC_MODE: u64 = 0xfee0_0c00;

/// Returns a CPU with this x2APIC id, whose APIC is in xAPIC mode.
fn cpu(id: u32) -> Apic {
    Apic { has_x2apic: true, base: XAPIC_MODE, id, xapic_id: 0x66, cpuid_id: 0x77 }
}

/// Returns the bytes of a slot.
fn bytes(slot: &ApSlot) -> [u8; 64] {
    let mut bytes = [0xee; 64];
    bytes[0..4].copy_from_slice(&slot.state.load(Ordering::Relaxed).to_le_bytes());
    bytes[4..8].copy_from_slice(&slot.apic_id.to_le_bytes());
    bytes[8..16].copy_from_slice(&slot.stack_top.to_le_bytes());
    bytes[16..24].copy_from_slice(&slot.argument.to_le_bytes());
    bytes
}

/// Runs a CPU against slots with these ids and states. The stack of slot `n` ends `n` pages above `STACK_TOP`. The
/// remaining slots, up to the count in the parameters, belong to CPUs 1000 and up.
fn arrive(apic: Apic, slots: &[(u32, u32)]) -> (End, Machine) {
    arrive_in_mode(true, apic, slots)
}

/// Runs a CPU against slots, with the BSP's APIC in x2APIC mode or in xAPIC mode.
fn arrive_in_mode(x2apic: bool, apic: Apic, slots: &[(u32, u32)]) -> (End, Machine) {
    let parameters = Parameters { x2apic, ..parameters(PAGE) };
    let mut page = [0; 4096];
    install(&mut page, &parameters).expect("the parameters are valid");
    let mut machine = Machine::new(apic, parameters.apic_registers);
    machine.load(PAGE.into(), &page);
    let others = (1000..).map(|apic_id| (apic_id, slot_state::OFFERED));
    let all = slots.iter().copied().chain(others).take(parameters.slot_count as usize);
    for (n, (apic_id, state)) in (0..).zip(all) {
        let slot = ApSlot::new(apic_id, STACK_TOP + n * 4096, ARGUMENT + n);
        slot.state.store(state, Ordering::Relaxed);
        machine.load(parameters.slots + n * 64, &bytes(&slot));
        machine.load(slot.stack_top - 8, &[0xee; 8]);
    }
    // The mode switch may leave arbitrary bits in the upper half.
    machine.set_register(Register::RSI, 0x5555_5555_0000_0000 | u64::from(PAGE));
    machine.set_register(Register::RBP, 0x6666_6666_6666_6666);
    let end = machine.run(&Code::of(&page).long);
    (end, machine)
}

fn states(machine: &Machine, count: u64) -> Vec<u32> {
    (0..count).map(|n| machine.read(parameters(PAGE).slots + n * 64, 4) as u32).collect()
}

fn assert_enters_with_slot(n: u64, (end, machine): (End, Machine)) {
    assert_eq!(end, End::Entered(parameters(PAGE).entry));
    let rsp = machine.register(Register::RSP);
    assert_eq!(rsp, STACK_TOP + n * 4096 - 8, "rsp must be aligned as after a call");
    assert_eq!(machine.read(rsp, 8), 0, "the return address must be zero");
    assert_eq!(machine.register(Register::RBP), 0);
    assert_eq!(machine.register(Register::RDI), ARGUMENT + n);
    assert_eq!(states(&machine, n + 1)[n as usize], slot_state::CLAIMED);
}

/// After a SIPI only CS depends on the vector: CS is the vector times 256.
#[test]
fn page_is_found_through_cs() {
    for page in PAGES {
        let real = Code::of(&installed(page)).real;
        let table_load = real.iter().position(|i| i.mnemonic() == Mnemonic::Lidt).unwrap();
        let mut machine = Machine::new(Apic::default(), parameters(page).apic_registers);
        machine.set_register(Register::CS, u64::from(page >> 4));
        machine.set_register(Register::RSI, 0x5555_5555_5555_5555);
        real[2..table_load].iter().for_each(|instruction| machine.step(instruction));
        assert_eq!(machine.register(Register::DS), u64::from(page >> 4));
        assert_eq!(machine.register(Register::ESI), u64::from(page));
    }
}

#[test]
fn cpu_enters_the_kernel_with_its_own_slot() {
    let offered = [4, 0x1_0004, 0xff, 0].map(|apic_id| (apic_id, slot_state::OFFERED));
    for (n, (apic_id, _)) in (0..).zip(offered) {
        let (end, machine) = arrive(cpu(apic_id), &offered);
        let claimed = states(&machine, 4).iter().filter(|&&state| state == slot_state::CLAIMED).count();
        assert_eq!(claimed, 1, "no other slot may be modified");
        assert_enters_with_slot(n, (end, machine));
    }
}

/// The ids of [`cpu`] with id 257: from CPUID, in xAPIC mode, and in x2APIC mode.
const IDS: [(u32, u32); 3] =
    [(0x77, slot_state::OFFERED), (0x66, slot_state::OFFERED), (257, slot_state::OFFERED)];

#[test]
fn apic_enters_x2apic_mode_before_its_id_is_read() {
    for base in [XAPIC_MODE, X2APIC_MODE] {
        let (end, machine) = arrive_in_mode(true, Apic { base, ..cpu(257) }, &IDS);
        assert_eq!(machine.apic.base, X2APIC_MODE);
        assert_enters_with_slot(2, (end, machine));
    }
}

#[test]
fn apic_stays_in_xapic_mode_if_the_bsp_uses_it() {
    let (end, machine) = arrive_in_mode(false, cpu(257), &IDS);
    assert_eq!(machine.apic.base, XAPIC_MODE);
    assert_enters_with_slot(1, (end, machine));
}

/// The code must not set EXTD on a CPU without x2APIC mode: that would fault, and there is no IDT.
#[test]
fn cpu_without_x2apic_mode_reads_its_xapic_id() {
    let (end, machine) = arrive_in_mode(true, Apic { has_x2apic: false, ..cpu(257) }, &IDS);
    assert_eq!(machine.apic.base, XAPIC_MODE);
    assert_enters_with_slot(1, (end, machine));
}

#[test]
fn cpu_whose_slot_is_not_offered_parks_and_changes_nothing() {
    for state in [slot_state::VACANT, slot_state::CLAIMED, slot_state::ONLINE, slot_state::CLOSED] {
        let (end, machine) = arrive(cpu(5), &[(4, slot_state::OFFERED), (5, state)]);
        assert_eq!(end, End::Halted);
        assert_eq!(states(&machine, 2), [slot_state::OFFERED, state]);
        assert_eq!(machine.register(Register::RSP), 0, "no stack may be used");
    }
}

/// The search must end after the last slot: no memory exists after it in this test.
#[test]
fn cpu_without_a_slot_parks() {
    let (end, machine) = arrive(cpu(5), &[]);
    assert_eq!(end, End::Halted);
    assert_eq!(machine.register(Register::RSP), 0);
}

#[test]
fn last_slot_is_searched() {
    let last = u64::from(parameters(PAGE).slot_count) - 1;
    assert_enters_with_slot(last, arrive(cpu(1000 + last as u32), &[]));
}
