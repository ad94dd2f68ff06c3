//! Executes the check of the CPU's features in the emulator.

use iced_x86::{Instruction, Mnemonic, Register};

use super::machine::{Apic, End, Machine};
use super::{Code, installed, parameters};

const PAGE: u32 = 0x8000;
const APIC_ID: u8 = 0xfe;

/// Returns the instructions of the check, from the one that sets the leaf of the first cpuid to the load of CR4's
/// value.
fn check(protected: &[Instruction]) -> &[Instruction] {
    let first = protected.iter().position(|i| i.mnemonic() == Mnemonic::Cpuid).unwrap() - 1;
    let end = protected.iter().position(|i| i.op0_register() == Register::CR4).unwrap() - 1;
    &protected[first..end]
}

/// Runs the check on a CPU that lacks these features, or the entire second leaf. Returns how the run ended, and the
/// rows of the report that have missing features, each with its index and words. The CPU must have reported that it has
/// reached protected mode.
fn run(basic: u32, extended: Option<u32>) -> (End, Vec<(u64, u64, u64)>) {
    let parameters = parameters(PAGE);
    let page = installed(PAGE);
    let mut machine = Machine::new(Apic { cpuid_id: APIC_ID, ..Apic::default() }, 0);
    machine.features = (!basic, extended.map(|missing| !missing));
    machine.load(PAGE.into(), &page);
    machine.load(parameters.report.into(), &[0; 4096]);
    machine.set_register(Register::ESI, PAGE.into());
    let end = machine.run(check(&Code::of(&page).protected));
    let row = |n: u64| {
        let address = u64::from(parameters.report) + 16 * n;
        let reached = machine.read(address + 8, 4);
        assert_eq!(reached, u64::from(n == APIC_ID.into()), "row {n}");
        (n, machine.read(address, 4), machine.read(address + 4, 4))
    };
    (end, (0..256).map(row).filter(|row| (row.1, row.2) != (0, 0)).collect())
}

#[test]
fn cpu_with_all_features_continues() {
    let parameters = parameters(PAGE);
    assert_eq!(run(0, Some(0)), (End::Continued, vec![]));
    // The CPU may lack all other features.
    let others = (!parameters.basic_features, Some(!parameters.extended_features));
    assert_eq!(run(others.0, others.1), (End::Continued, vec![]));
}

#[test]
fn cpu_that_lacks_a_feature_reports_it_and_parks() {
    let parameters = parameters(PAGE);
    let bits = |mask: u32| (0..32).map(|bit| 1 << bit).filter(move |bit| mask & bit != 0);
    for bit in bits(parameters.basic_features) {
        assert_eq!(run(bit, Some(0)), (End::Halted, vec![(APIC_ID.into(), bit.into(), 0)]));
    }
    for bit in bits(parameters.extended_features) {
        assert_eq!(run(0, Some(bit)), (End::Halted, vec![(APIC_ID.into(), 0, bit.into())]));
    }
    let all = (parameters.basic_features.into(), parameters.extended_features.into());
    assert_eq!(run(u32::MAX, Some(u32::MAX)), (End::Halted, vec![(APIC_ID.into(), all.0, all.1)]));
}

#[test]
fn cpu_without_the_extended_leaf_lacks_all_its_features() {
    let extended = parameters(PAGE).extended_features.into();
    assert_eq!(run(0, None), (End::Halted, vec![(APIC_ID.into(), 0, extended)]));
}

/// Registers that fault on a CPU without the features must be loaded after the check.
#[test]
fn check_precedes_the_first_use() {
    let protected = Code::of(&installed(PAGE)).protected;
    let place = |mnemonic| protected.iter().position(|i| i.mnemonic() == mnemonic).unwrap();
    let check = check(&protected);
    let after = protected.iter().position(|i| i.ip() == check.last().unwrap().ip()).unwrap();
    assert!(after < place(Mnemonic::Wrmsr));
    let control = |i: &Instruction| matches!(i.op0_register(), Register::CR0 | Register::CR3 | Register::CR4);
    assert!(after < protected.iter().position(control).unwrap());
}
