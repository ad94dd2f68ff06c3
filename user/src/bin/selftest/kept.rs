//! What must be as it was: every register over every way into the kernel and back.

use kernel_abi::errno::Errno;
use kernel_abi::syscall::{
    SYS_CLOCK_NS, SYS_CPU_COUNT, SYS_GET_CPU, SYS_GET_TICKS, SYS_NULL, SYS_TRACE, SYS_WRITE_SERIAL,
};
use user::sys;

use crate::numbers::UNKNOWN;
use crate::registers::{Registers, over_loop, over_syscall};
use crate::time::Deadline;
use crate::{Verdict, expect};

/// Carry, parity, adjust, zero, sign, direction, overflow, nested task, alignment check, identification: every
/// flag that ring 3 can set, but for the trap flag, which would single-step the kernel's entry.
const ALL_FLAGS: u64 = 0x0024_4cd5;
/// Interrupts on, and the bit that is always set.
const NO_FLAGS: u64 = 0x202;

/// How often each call is made with each pattern.
const ROUNDS: u32 = 16;

/// The two patterns that are sent over the border: each bit of a register is set in one and clear in the other,
/// and no register has the value of another, nor of the same on another CPU.
fn patterns(cpu: u64) -> [Registers; 2] {
    [pattern(cpu, 0), pattern(cpu, u64::MAX)]
}

fn pattern(cpu: u64, inverted: u64) -> Registers {
    let mut state = cpu << 8;
    // Odd multiplier: distinct states give distinct values.
    let mut next = || {
        state += 1;
        state.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ inverted
    };
    let mut registers = Registers {
        rax: next(),
        rbx: next(),
        rcx: next(),
        rdx: next(),
        rsi: next(),
        rdi: next(),
        rbp: next(),
        r8: next(),
        r9: next(),
        r10: next(),
        r11: next(),
        r12: next(),
        r13: next(),
        r14: next(),
        r15: next(),
        ..Registers::ZERO
    };
    let fpu = &mut registers.fpu;
    fpu.xmm = [(); 16].map(|()| [next(), next()]);
    // Numbers with their leading bit set, as the unit itself would leave them.
    fpu.st = [(); 8].map(|()| [next() | 1 << 63, 0x3fff]);
    fpu.x87_tags = 0xff;
    // All exceptions stay masked. Rounding and precision: down and single, or up and double.
    // MXCSR: towards zero with all sticky bits set, or down with flush to zero.
    (fpu.x87_control, fpu.mxcsr, registers.rflags) =
        if inverted == 0 { (0x047f, 0x7fbf, ALL_FLAGS | NO_FLAGS) } else { (0x0a7f, 0xbf80, NO_FLAGS) };
    registers
}

/// Makes a system call with these registers and compares all of them. `result` is what rax must be, if it
/// can be known.
fn check_call(registers: &Registers, result: Option<u64>) -> Verdict {
    let number = registers.rax;
    // SAFETY: the calls made from here read memory at most; the patterns have TF clear and masked exceptions.
    let (before, after) = unsafe { over_syscall(registers) };
    let expected =
        Registers { rax: result.unwrap_or(after.rax), rcx: before.resume, r11: before.rflags, ..before };
    compare(format_args!("system call {number:#x}"), &expected, &after)
}

fn compare(what: core::fmt::Arguments<'_>, expected: &Registers, got: &Registers) -> Verdict {
    for ((name, expected), (_, got)) in expected.integers().into_iter().zip(got.integers()) {
        expect(format_args!("{what}: {name}"), &expected, &got)?;
    }
    let (expected, got) = (&expected.fpu, &got.fpu);
    expect(format_args!("{what}: x87 control word"), &expected.x87_control, &got.x87_control)?;
    expect(format_args!("{what}: x87 status word"), &expected.x87_status, &got.x87_status)?;
    expect(format_args!("{what}: x87 tags"), &expected.x87_tags, &got.x87_tags)?;
    expect(format_args!("{what}: MXCSR"), &expected.mxcsr, &got.mxcsr)?;
    for (index, (expected, got)) in expected.st.iter().zip(&got.st).enumerate() {
        let ten_bytes = |[low, high]: [u64; 2]| [low, high & 0xffff];
        expect(format_args!("{what}: st{index}"), &ten_bytes(*expected), &ten_bytes(*got))?;
    }
    for (index, (expected, got)) in expected.xmm.iter().zip(&got.xmm).enumerate() {
        expect(format_args!("{what}: xmm{index}"), expected, got)?;
    }
    Ok(())
}

/// Every system call that comes back, given what it wants.
pub fn over_system_calls() -> Verdict {
    let known = [
        (SYS_NULL, Some(0)),
        (SYS_GET_TICKS, None),
        (SYS_GET_CPU, Some(sys::get_cpu())),
        (SYS_CPU_COUNT, Some(sys::cpu_count())),
        (SYS_CLOCK_NS, None),
    ];
    for _ in 0..ROUNDS {
        for registers in patterns(sys::get_cpu()) {
            for (number, result) in known {
                check_call(&Registers { rax: number, ..registers }, result)?;
            }
        }
    }

    // Once a pattern: the kernel prints every event at the end of the run.
    for registers in patterns(sys::get_cpu()) {
        check_call(&Registers { rax: SYS_TRACE, ..registers }, Some(0))?;
    }

    // A call that copies. One byte at a time is accepted whole.
    let line = b"selftest: a line that is written with all registers watched\n";
    for (byte, registers) in line.iter().zip(patterns(sys::get_cpu()).into_iter().cycle()) {
        let address = &raw const *byte as u64;
        check_call(&Registers { rax: SYS_WRITE_SERIAL, rdi: address, rsi: 1, ..registers }, Some(1))?;
    }
    Ok(())
}

pub fn over_unknown_numbers() -> Verdict {
    for _ in 0..ROUNDS {
        for registers in patterns(sys::get_cpu()) {
            for number in UNKNOWN {
                check_call(&Registers { rax: number, ..registers }, Some(Errno::NoSys.to_rax()))?;
            }
        }
    }
    Ok(())
}

/// A copy that faults in the kernel, and ranges that it refuses before it copies.
pub fn over_failing_copies() -> Verdict {
    for _ in 0..ROUNDS {
        for registers in patterns(sys::get_cpu()) {
            for address in [0, 0x1_0000, 1 << 46, 1 << 47, 0xffff_ffff_8000_0000] {
                let registers = Registers { rax: SYS_WRITE_SERIAL, rdi: address, rsi: 8, ..registers };
                check_call(&registers, Some(Errno::Fault.to_rax()))?;
            }
        }
    }
    Ok(())
}

/// Interrupts that come in ring 3: a loop without system calls, long enough for three ticks.
pub fn over_ticks() -> Verdict {
    for registers in patterns(sys::get_cpu()) {
        let deadline = Deadline::start();
        let mut rounds = 1 << 20;
        loop {
            let ticks = sys::ticks();
            // SAFETY: the patterns have TF clear and masked exceptions.
            let (before, after) = unsafe { over_loop(&Registers { rcx: rounds, ..registers }) };
            let ticks = sys::ticks() - ticks;
            compare(format_args!("{ticks} ticks in ring 3"), &Registers { rcx: 0, ..before }, &after)?;
            if ticks >= 3 {
                break;
            }
            if deadline.has_passed() {
                return expect(format_args!("ticks in a loop of {rounds} rounds: at least 3"), &3, &ticks);
            }
            rounds *= 2;
        }
    }
    Ok(())
}

/// The host's kernel keeps registers as Ringside must: what the checks rest on can be tried there.
#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn each_bit_is_set_in_one_pattern_and_clear_in_the_other() {
        let [one, other] = patterns(3);
        for ((name, one), (_, other)) in one.integers().into_iter().zip(other.integers()).take(15) {
            assert_eq!(one, !other, "{name}");
        }
        let mut values: Vec<u64> = [0, 1, 255]
            .into_iter()
            .flat_map(patterns)
            .flat_map(|registers| registers.integers().map(|(_, value)| value).into_iter().take(15))
            .collect();
        values.sort_unstable();
        let count = values.len();
        values.dedup();
        assert_eq!(values.len(), count, "no value occurs twice");
    }

    #[test]
    fn a_crossing_that_keeps_everything_passes() {
        for registers in patterns(1) {
            // SAFETY: the patterns have TF clear and masked exceptions.
            let (before, after) = unsafe { over_loop(&Registers { rcx: 1000, ..registers }) };
            assert_eq!(before.rflags & ALL_FLAGS, registers.rflags & ALL_FLAGS);
            assert!(compare(format_args!("loop"), &Registers { rcx: 0, ..before }, &after).is_ok());
            // Linux has no such number either, and the same convention.
            let registers = Registers { rax: u64::MAX, ..registers };
            assert!(check_call(&registers, Some(Errno::NoSys.to_rax())).is_ok());
        }
    }

    #[test]
    fn each_register_is_compared() {
        let [registers, _] = patterns(1);
        let differs = |change: &dyn Fn(&mut Registers)| {
            let mut changed = registers;
            change(&mut changed);
            compare(format_args!("on purpose"), &registers, &changed).is_err()
        };
        assert!(!differs(&|_| ()));
        assert!(differs(&|r| r.rbp ^= 1));
        assert!(differs(&|r| r.rsp ^= 8));
        assert!(differs(&|r| r.rflags ^= 0x400));
        assert!(differs(&|r| r.fpu.mxcsr ^= 0x40));
        assert!(differs(&|r| r.fpu.x87_control ^= 0x100));
        assert!(differs(&|r| r.fpu.x87_tags = 0));
        assert!(differs(&|r| r.fpu.st[7][1] ^= 0x8000));
        assert!(differs(&|r| r.fpu.xmm[15][1] ^= 1 << 63));
    }
}
