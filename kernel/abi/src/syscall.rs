//! The system calls. One table defines them; the constants, the names, the unused numbers and the table in the
//! documentation are derived from it.
//!
//! At `syscall`, rax holds the number, and rdi, rsi, rdx, r10, r8 and r9 hold the arguments. The result is in rax. rcx
//! and r11 are clobbered; all other registers are preserved. A number that is not in the table returns `-ENOSYS`.

use core::ops::Range;

/// The number of entries in the kernel's dispatch table. A power of two, so that the index can be masked.
pub const TABLE_LEN: usize = 16;

/// The maximum number of bytes that one `SYS_WRITE_SERIAL` accepts.
pub const WRITE_SERIAL_MAX: usize = 256;

/// The property of a call's result that a program can predict. Used by programs that test the calls.
#[derive(Clone, Copy, Debug)]
pub enum Returns {
    /// A function of the first two arguments.
    Value(fn(u64, u64) -> u64),
    /// The index of the CPU that makes the call.
    ThisCpu,
    /// The number of CPUs, the same on every CPU.
    CpuCount,
    /// The tick count of this CPU, which never decreases.
    Ticks,
    /// A time in nanoseconds, which never decreases on one CPU.
    Clock,
    /// The number of bytes accepted from a range of memory, or an error.
    Accepted,
    /// The call does not return.
    Never,
}

/// Generates the constants and [`Call`] from rows `NUMBER VARIANT CONSTANT(ARGUMENTS) -> RETURNS, "RESULT";`. `RESULT`
/// is the text in the documentation's table.
macro_rules! calls {
    ($($(#[$doc:meta])* $number:literal $call:ident $constant:ident($($argument:ident),*) -> $returns:expr, $result:literal;)*) => {
        $($(#[$doc])* pub const $constant: u64 = Call::$call as u64;)*

        /// A system call. The discriminant is its number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u64)]
        pub enum Call {
            $($(#[$doc])* $call = $number,)*
        }

        impl Call {
            /// All calls, in the order of their numbers, which have no gaps.
            pub const ALL: [Call; [$($number),*].len()] = [$(Call::$call),*];

            /// Returns the name of the constant.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Call::$call => stringify!($constant),)*
                }
            }

            /// Returns the names of the arguments, in the order of the registers.
            #[must_use]
            pub const fn arguments(self) -> &'static [&'static str] {
                match self {
                    $(Call::$call => &[$(stringify!($argument)),*],)*
                }
            }

            /// Returns the result that programs that test the call expect.
            #[must_use]
            pub const fn returns(self) -> Returns {
                use Returns::*;
                match self {
                    $(Call::$call => $returns,)*
                }
            }

            /// Returns the description of the result, as Markdown.
            #[must_use]
            pub const fn result(self) -> &'static str {
                match self {
                    $(Call::$call => $result,)*
                }
            }
        }
    };
}

calls! {
    /// Does nothing and returns 0. This is the shortest path into ring 0 and back.
    0 Null SYS_NULL() -> Value(|_, _| 0), "0";
    /// `(buf, len)`: writes bytes to this CPU's console line. Returns the number of bytes accepted, which may be less
    /// than `len`: at most [`WRITE_SERIAL_MAX`] bytes and at most one newline. Returns `-EFAULT` if the range is not
    /// in the user half or its first byte cannot be read. Returns 0 if `len` is 0, for any pointer.
    1 WriteSerial SYS_WRITE_SERIAL(buf, len) -> Accepted, "number of bytes accepted, or `-EFAULT`";
    /// Returns the number of timer ticks on this CPU since its first copy of the program started.
    2 GetTicks SYS_GET_TICKS() -> Ticks, "number of timer ticks on this CPU since its first copy of the program started";
    /// `(code)`: ends the program on this CPU. Never returns.
    3 Exit SYS_EXIT(code) -> Never, "does not return";
    /// Returns the dense index of this CPU; 0 is the BSP.
    4 GetCpu SYS_GET_CPU() -> ThisCpu, "index of this CPU; 0 is the BSP";
    /// Returns the number of CPUs online.
    5 CpuCount SYS_CPU_COUNT() -> CpuCount, "number of CPUs online; CPU indices are below this number";
    /// Returns the nanoseconds since boot. Monotonic on each CPU.
    6 ClockNs SYS_CLOCK_NS() -> Clock, "nanoseconds since boot; never decreases on one CPU";
    /// `(id, value)`: records a user event in this CPU's trace. Returns 0.
    7 Trace SYS_TRACE(id, value) -> Value(|_, _| 0), "0";
}

/// The unused numbers of the table.
pub const FREE: Range<u64> = Call::ALL.len() as u64..TABLE_LEN as u64;

impl Call {
    /// Returns the system-call number, as passed in rax.
    #[must_use]
    pub const fn number(self) -> u64 {
        self as u64
    }

    /// Returns the call with this number; `None` if the number is unused.
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Call> {
        if number < FREE.start { Some(Call::ALL[number as usize]) } else { None }
    }
}

const _: () = {
    let mut n = 0;
    while n < Call::ALL.len() {
        assert!(
            Call::ALL[n] as usize == n,
            "the rows must be in the order of their numbers, from 0 and without gaps"
        );
        n += 1;
    }
    assert!(n <= TABLE_LEN, "the dispatch table must have an entry for every call");
};
