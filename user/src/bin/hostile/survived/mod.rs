//! Probes that return: the kernel or the CPU rejects the attempt, or it has no effect.

mod calls;
pub use self::calls::FLAG_SAMPLES;
mod harmless;
mod numbers;
mod pointers;

use kernel_abi::errno::Errno;
use kernel_abi::syscall::{Call, Returns};
use user::sys;

use crate::back::{Back, Value};
use crate::class::Class;
use crate::code;
use crate::maker::Maker;
use crate::probe::{Code, Expect, Probe};
use crate::table::Group;

/// All groups.
pub const GROUPS: &[Group] = &[
    numbers::ONE_BIT,
    numbers::HIGH_BITS,
    pointers::ELSEWHERE,
    pointers::SHARED,
    calls::FLAGS,
    calls::STACKS,
    calls::TICKS,
    harmless::SELECTORS,
    harmless::LOADS,
    harmless::OTHERS,
];

/// Returns the code of a single system call.
fn syscall() -> Code {
    code!("syscall")
}

/// Returns a probe that makes a system call. Registers that hold no arguments have random values. The caller may change
/// flags and rsp before it calls [`expect_call`].
fn call(
    maker: &mut Maker,
    class: Class,
    name: &'static str,
    detail: u64,
    number: u64,
    arguments: [u64; 2],
) -> Probe {
    let mut probe = maker.probe(class, name, detail, syscall());
    probe.state.rax = number;
    [probe.state.rdi, probe.state.rsi] = arguments;
    probe
}

/// Sets the expected outcome of a system call that returns.
fn expect_call(maker: &Maker, mut probe: Probe) -> Probe {
    let state = &probe.state;
    let rax = match Call::from_number(state.rax).map(Call::returns) {
        Some(Returns::Value(of)) => Value::Is(of(state.rdi, state.rsi)),
        Some(Returns::Accepted) => Value::Is(maker.console.write(state.rdi, state.rsi)),
        Some(Returns::Ticks) => Value::AtLeast(sys::ticks()),
        Some(Returns::ThisCpu) => Value::Is(maker.cpu),
        Some(Returns::CpuCount) => Value::Is(maker.cpus),
        Some(Returns::Clock) => Value::AtLeast(sys::clock_ns()),
        Some(Returns::Never) => panic!("a call that does not return is among the deadly probes"),
        None => Value::Is(Errno::NoSys.to_rax()),
    };
    probe.expect = Expect::Back(Back::call(syscall(), state.rflags, rax));
    probe
}
