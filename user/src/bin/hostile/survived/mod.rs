//! Probes that a copy survives: what it tries is refused, or changes nothing.

mod calls;
pub use self::calls::FLAGS_BESIDE;
mod harmless;
mod numbers;
mod pointers;

use kernel_abi::errno::Errno;
use kernel_abi::syscall::{
    SYS_CLOCK_NS, SYS_CPU_COUNT, SYS_GET_CPU, SYS_GET_TICKS, SYS_NULL, SYS_TRACE, SYS_WRITE_SERIAL,
};
use user::sys;

use crate::back::{Back, Value};
use crate::class::Class;
use crate::code;
use crate::maker::Maker;
use crate::probe::{Code, Expect, Probe};
use crate::table::Group;

/// All of them.
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

/// One system call.
fn syscall() -> Code {
    code!("syscall")
}

/// A probe that makes a system call. What is not an argument is poison; flags and rsp may be changed before
/// [`expect_call`] is asked.
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

/// Writes down what has to come of a call. Not for `SYS_EXIT`.
fn expect_call(maker: &Maker, mut probe: Probe) -> Probe {
    let state = &probe.state;
    let rax = match state.rax {
        SYS_NULL | SYS_TRACE => Value::Is(0),
        SYS_WRITE_SERIAL => Value::Is(maker.console.write(state.rdi, state.rsi)),
        SYS_GET_TICKS => Value::AtLeast(sys::ticks()),
        SYS_GET_CPU => Value::Is(maker.cpu),
        SYS_CPU_COUNT => Value::Is(maker.cpus),
        SYS_CLOCK_NS => Value::AtLeast(sys::clock_ns()),
        _ => Value::Is(Errno::NoSys.to_rax()),
    };
    probe.expect = Expect::Back(Back::call(syscall(), state.rflags, rax));
    probe
}
