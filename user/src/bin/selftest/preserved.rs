//! Registers that the kernel must preserve across each kind of kernel entry and exit.

use kernel_abi::errno::Errno;
use kernel_abi::syscall::{Call, Returns, SYS_TRACE, SYS_WRITE_SERIAL};
use user::patterns::{difference, patterns};
use user::registers::{Registers, run_loop, run_syscall};
use user::{println, sys};

use crate::numbers::UNKNOWN;
use crate::time::Deadline;
use crate::{Failed, Verdict, expect};

/// The number of times that each call is made with each pattern.
const ROUNDS: u32 = 16;

/// Makes a system call with these registers and compares all registers after it. `result` is the expected rax, if
/// known.
fn check_call(registers: &Registers, result: Option<u64>) -> Verdict {
    let number = registers.rax;
    // SAFETY: the calls made through this function at most read memory; the patterns have TF clear and exceptions
    // masked.
    let (before, after) = unsafe { run_syscall(registers) };
    let expected =
        Registers { rax: result.unwrap_or(after.rax), rcx: before.rip, r11: before.rflags, ..before };
    compare(format_args!("system call {number:#x}"), &expected, &after)
}

fn compare(what: core::fmt::Arguments<'_>, expected: &Registers, got: &Registers) -> Verdict {
    difference(expected, got).map_or(Ok(()), |difference| {
        println!("selftest: FAILED: {what}: {difference}");
        Err(Failed)
    })
}

/// Checks every system call that returns.
pub fn over_system_calls() -> Verdict {
    for _ in 0..ROUNDS {
        for registers in patterns(sys::get_cpu()) {
            for call in Call::ALL {
                let result = match call.returns() {
                    // Called only once per pattern, below: the kernel prints every event at the end of the run.
                    Returns::Value(_) if call == Call::Trace => continue,
                    Returns::Value(of) => Some(of(registers.rdi, registers.rsi)),
                    Returns::ThisCpu => Some(sys::get_cpu()),
                    Returns::CpuCount => Some(sys::cpu_count()),
                    Returns::Ticks | Returns::Clock => None,
                    // Called with a memory range, below.
                    Returns::Accepted | Returns::Never => continue,
                };
                check_call(&Registers { rax: call.number(), ..registers }, result)?;
            }
        }
    }

    for registers in patterns(sys::get_cpu()) {
        check_call(&Registers { rax: SYS_TRACE, ..registers }, Some(0))?;
    }

    // A call that copies. The console accepts a single byte completely.
    let line = b"selftest: all registers are checked while this line is written\n";
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

/// Checks a user copy that faults in the kernel, and ranges that are rejected before the copy.
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

/// Checks interrupts in ring 3: a loop without system calls that is long enough for three ticks.
pub fn over_ticks() -> Verdict {
    for registers in patterns(sys::get_cpu()) {
        let deadline = Deadline::start();
        let mut rounds = 1 << 20;
        loop {
            let ticks = sys::ticks();
            // SAFETY: the patterns have TF clear and exceptions masked.
            let (before, after) = unsafe { run_loop(&Registers { rcx: rounds, ..registers }) };
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

/// Linux preserves the same registers, so the checks themselves can be tested on a Linux host.
#[cfg(all(test, target_os = "linux"))]
mod tests {
    use user::patterns::ALL_FLAGS;

    use super::*;

    #[test]
    fn each_bit_is_set_in_one_pattern_and_clear_in_the_other() {
        let [one, other] = patterns(3);
        for ((name, one), (_, other)) in one.general().into_iter().zip(other.general()).take(15) {
            assert_eq!(one, !other, "{name}");
        }
        let mut values: Vec<u64> = [0, 1, 255]
            .into_iter()
            .flat_map(patterns)
            .flat_map(|registers| registers.general().map(|(_, value)| value).into_iter().take(15))
            .collect();
        values.sort_unstable();
        let count = values.len();
        values.dedup();
        assert_eq!(values.len(), count, "no value occurs twice");
    }

    #[test]
    fn preserved_registers_pass() {
        for registers in patterns(1) {
            // SAFETY: the patterns have TF clear and exceptions masked.
            let (before, after) = unsafe { run_loop(&Registers { rcx: 1000, ..registers }) };
            assert_eq!(before.rflags & ALL_FLAGS, registers.rflags & ALL_FLAGS);
            assert!(compare(format_args!("loop"), &Registers { rcx: 0, ..before }, &after).is_ok());
            // Linux does not implement this number either and uses the same convention.
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
