//! Ends a run after the verdict: ends QEMU, halts, resets the machine, or powers it off. UEFI firmware resets the machine
//! and powers it off through its runtime services; otherwise the kernel uses the registers that the ACPI tables name.

use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use kernel_abi::verdict::{DEBUG_EXIT_PORT, Verdict};
use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::port::Port;
use x86_64::instructions::tables::lidt;
use x86_64::instructions::{hlt, interrupts};
use x86_64::structures::DescriptorTablePointer;

use super::uart;
use crate::cmdline::Finish;
use crate::power::{Power, sleep_value};

/// The index in [`Finish::ALL`] of the action after the verdict. Until [`configure`] is called, the action is to halt
/// the CPUs.
static FINISH: AtomicU8 = AtomicU8::new(Finish::Stay as u8);

/// The registers that the firmware's tables name for resetting the machine and powering it off.
static POWER: Once<Power> = Once::new();

/// A request to the firmware after the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// Resets the machine.
    Reboot,
    /// Powers the machine off.
    PowerOff,
}

/// A function that lets the firmware reset the machine or power it off. It returns only if the firmware is faulty.
///
/// # Safety
/// The run has ended, no other CPU runs, and interrupts are off. Called once.
pub type FirmwareReset = unsafe fn(Reset);

/// The function that calls the firmware, if it has runtime services.
static FIRMWARE_RESET: Once<FirmwareReset> = Once::new();
/// Whether the firmware has been called. If it fails, the panic path does not call it again.
static CALLED: AtomicBool = AtomicBool::new(false);

/// The command port of the keyboard controller, and its command that pulses the reset line.
const KEYBOARD_COMMAND: u16 = 0x64;
const PULSE_RESET: u8 = 0xfe;

/// Sets the action after the verdict.
pub fn configure(finish: Finish) {
    FINISH.store(finish as u8, Ordering::Relaxed);
}

/// Stores the registers that the firmware's tables name for resetting the machine and powering it off. Until this
/// function is called, the machine cannot be powered off.
pub fn set_power(power: Power) {
    POWER.call_once(|| power);
}

/// Stores the function that calls the firmware. The end of the run prefers this function to the registers that the
/// tables name. It is passed as an argument because a higher layer maps the firmware's memory.
pub fn set_firmware_reset(reset: FirmwareReset) {
    FIRMWARE_RESET.call_once(|| reset);
}

/// Asks the firmware to reset the machine or to power it off. Returns if that fails.
fn call_firmware(what: Reset) {
    if let Some(reset) = FIRMWARE_RESET.get()
        && !CALLED.swap(true, Ordering::Relaxed)
    {
        // SAFETY: the run has ended: the callers have stopped the other CPUs, and interrupts are off. `CALLED` allows one
        // call only.
        unsafe { reset(what) };
    }
}

/// Ends the run. If the machine is to be reset or powered off, the caller has stopped the other CPUs. If the machine
/// keeps running, this CPU halts permanently.
pub fn end_run(verdict: Verdict) -> ! {
    interrupts::disable();
    match Finish::ALL[usize::from(FINISH.load(Ordering::Relaxed))].1 {
        Finish::Exit => {
            let mut port = Port::<u32>::new(DEBUG_EXIT_PORT);
            // SAFETY: the port belongs to QEMU's exit device: the loader or the command line says that it exists.
            unsafe { port.write(verdict as u32) };
        }
        Finish::Stay => {}
        Finish::Reboot => {
            uart::drain();
            call_firmware(Reset::Reboot);
            reset();
        }
        Finish::PowerOff => {
            uart::drain();
            call_firmware(Reset::PowerOff);
            power_off();
        }
    }
    loop {
        interrupts::disable();
        hlt();
    }
}

/// Powers the machine off, if the firmware's tables name the registers for it.
fn power_off() {
    let registers = POWER.get().map(|power| power.off).unwrap_or_default();
    for register in registers.into_iter().flatten() {
        let mut port = Port::<u16>::new(register.port);
        // SAFETY: the firmware's tables name this port as a PM1 control register. The run has ended, so nothing depends
        // on the machine's state.
        unsafe {
            let control = port.read();
            port.write(sleep_value(control, register.sleep_type));
        }
    }
}

/// Resets the machine: by the register that the firmware's tables name, else by the keyboard controller, else by a
/// triple fault.
fn reset() {
    if let Some(register) = POWER.get().and_then(|power| power.reset) {
        // SAFETY: the firmware's tables name this port as the reset register.
        unsafe { Port::<u8>::new(register.port).write(register.value) };
    }
    // SAFETY: the port belongs to the keyboard controller on all PCs, and the command resets the machine.
    unsafe { Port::<u8>::new(KEYBOARD_COMMAND).write(PULSE_RESET) };
    // A reset takes effect after a moment.
    for _ in 0..10_000_000 {
        core::hint::spin_loop();
    }
    let empty = DescriptorTablePointer { limit: 0, base: VirtAddr::zero() };
    // SAFETY: with an IDT without gates the breakpoint causes a triple fault, which resets the CPU. Nothing runs after
    // it.
    unsafe {
        lidt(&empty);
        core::arch::asm!("int3");
    }
}

const _: () = {
    let mut at = 0;
    while at < Finish::ALL.len() {
        assert!(Finish::ALL[at].1 as usize == at, "Finish::ALL must be in the order of the discriminants");
        at += 1;
    }
};
