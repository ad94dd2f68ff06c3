//! Executes the code: how it finds its page, which CPU gets which slot and contents, and which CPUs park.

use core::sync::atomic::Ordering;

use iced_x86::{Mnemonic, Register};

use super::machine::{Cpuid, End, Machine};
use super::{Code, PAGES, installed, parameters};
use crate::{ApSlot, slot_state};

const PAGE: u32 = 0x8000;
const STACK_TOP: u64 = 0xffff_8000_0100_0000;
const ARGUMENT: u64 = 0xffff_8000_dead_b000;

/// A CPU that has leaf 0xB; its leaf 1 reports another id.
fn with_topology_leaf(apic_id: u32) -> Cpuid {
    Cpuid::from([(0, [0xd, 0, 0, 0]), (1, [0, 0x7700_0800, 0, 0]), (0xb, [0, 1, 0, apic_id])])
}

/// A slot's bytes in memory.
fn bytes(slot: &ApSlot) -> [u8; 64] {
    let mut bytes = [0xee; 64];
    bytes[0..4].copy_from_slice(&slot.state.load(Ordering::Relaxed).to_le_bytes());
    bytes[4..8].copy_from_slice(&slot.apic_id.to_le_bytes());
    bytes[8..16].copy_from_slice(&slot.stack_top.to_le_bytes());
    bytes[16..24].copy_from_slice(&slot.argument.to_le_bytes());
    bytes
}

/// Runs a CPU against slots with these ids and states; slot `n` has the stack that ends `n` pages above
/// `STACK_TOP`. Slots beyond them, up to the count in the parameters, are for CPUs 1000 and on.
fn arrive(cpuid: Cpuid, slots: &[(u32, u32)]) -> (End, Machine) {
    let page = installed(PAGE);
    let parameters = parameters(PAGE);
    let mut machine = Machine::new(cpuid);
    machine.load(PAGE.into(), &page);
    let others = (1000..).map(|apic_id| (apic_id, slot_state::OFFERED));
    let all = slots.iter().copied().chain(others).take(parameters.slot_count as usize);
    for (n, (apic_id, state)) in (0..).zip(all) {
        let slot = ApSlot::new(apic_id, STACK_TOP + n * 4096, ARGUMENT + n);
        slot.state.store(state, Ordering::Relaxed);
        machine.load(parameters.slots + n * 64, &bytes(&slot));
        machine.load(slot.stack_top - 8, &[0xee; 8]);
    }
    // What a change of mode may leave in the upper half.
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
    assert_eq!(rsp, STACK_TOP + n * 4096 - 8, "aligned as after a call");
    assert_eq!(machine.read(rsp, 8), 0, "the return address is zero");
    assert_eq!(machine.register(Register::RBP), 0);
    assert_eq!(machine.register(Register::RDI), ARGUMENT + n);
    assert_eq!(states(&machine, n + 1)[n as usize], slot_state::CLAIMED);
}

/// After a SIPI only CS depends on the vector: vector times 256.
#[test]
fn page_is_found_through_cs() {
    for page in PAGES {
        let real = Code::of(&installed(page)).real;
        let table_load = real.iter().position(|i| i.mnemonic() == Mnemonic::Lidt).unwrap();
        let mut machine = Machine::new(Cpuid::new());
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
        let (end, machine) = arrive(with_topology_leaf(apic_id), &offered);
        let claimed = states(&machine, 4).iter().filter(|&&state| state == slot_state::CLAIMED).count();
        assert_eq!(claimed, 1, "no other slot is touched");
        assert_enters_with_slot(n, (end, machine));
    }
}

#[test]
fn apic_id_comes_from_leaf_1_where_leaf_b_is_missing_or_empty() {
    let leaf_1 = (1, [0, 0x0200_0800, 0, 0]);
    let slots = [(1, slot_state::OFFERED), (2, slot_state::OFFERED), (9, slot_state::OFFERED)];
    let missing = Cpuid::from([(0, [0xa, 0, 0, 0]), leaf_1, (0xb, [0, 1, 0, 9])]);
    assert_enters_with_slot(1, arrive(missing, &slots));
    let empty = Cpuid::from([(0, [0xd, 0, 0, 0]), leaf_1, (0xb, [0, 0, 0, 9])]);
    assert_enters_with_slot(1, arrive(empty, &slots));
    let first_with_leaf_b = Cpuid::from([(0, [0xb, 0, 0, 0]), leaf_1, (0xb, [0, 1, 0, 9])]);
    assert_enters_with_slot(2, arrive(first_with_leaf_b, &slots));
}

#[test]
fn slot_that_is_not_offered_parks_the_cpu_untouched() {
    for state in [slot_state::VACANT, slot_state::CLAIMED, slot_state::ONLINE, slot_state::CLOSED] {
        let (end, machine) = arrive(with_topology_leaf(5), &[(4, slot_state::OFFERED), (5, state)]);
        assert_eq!(end, End::Halted);
        assert_eq!(states(&machine, 2), [slot_state::OFFERED, state]);
        assert_eq!(machine.register(Register::RSP), 0, "no stack was taken");
    }
}

/// The search ends with the last slot: there is no memory after it here.
#[test]
fn cpu_without_a_slot_parks() {
    let (end, machine) = arrive(with_topology_leaf(5), &[]);
    assert_eq!(end, End::Halted);
    assert_eq!(machine.register(Register::RSP), 0);
}

#[test]
fn last_slot_is_searched() {
    let last = u64::from(parameters(PAGE).slot_count) - 1;
    assert_enters_with_slot(last, arrive(with_topology_leaf(1000 + last as u32), &[]));
}
