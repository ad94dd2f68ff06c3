//! The system calls: one table, from which constants, names, free numbers and the documentation's table follow.
//!
//! rax holds the number at `syscall`. Arguments are in rdi, rsi, rdx, r10, r8, r9; the result is in rax; rcx and r11
//! are lost, every other register comes back as it was. A number without a row returns `-ENOSYS`.

use core::ops::Range;

/// Entries of the kernel's dispatch table, a power of two so that the index can be masked.
pub const TABLE_LEN: usize = 16;

/// The most bytes that one `SYS_WRITE_SERIAL` accepts.
pub const WRITE_SERIAL_MAX: usize = 256;

/// What a program can know of a call's result: what the programs that test the calls expect.
#[derive(Clone, Copy, Debug)]
pub enum Returns {
    /// This function of the first two arguments.
    Value(fn(u64, u64) -> u64),
    /// The number of the CPU that makes the call.
    ThisCpu,
    /// The number of CPUs, the same for all of them.
    CpuCount,
    /// This CPU's ticks, never fewer than before.
    Ticks,
    /// Nanoseconds, on each CPU never fewer than before.
    Clock,
    /// How much of a range of memory was accepted, or an error.
    Accepted,
    /// The call does not return.
    Never,
}

/// Makes the constants and [`Call`] out of rows `NUMBER VARIANT CONSTANT(ARGUMENTS) -> RETURNS, "RESULT";`. The last is the
/// text in the documentation's table.
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
            /// Every call, in the order of the numbers, which have no gaps.
            pub const ALL: [Call; [$($number),*].len()] = [$(Call::$call),*];

            /// The name of the constant.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Call::$call => stringify!($constant),)*
                }
            }

            /// The names of the arguments, in the order of the registers.
            #[must_use]
            pub const fn arguments(self) -> &'static [&'static str] {
                match self {
                    $(Call::$call => &[$(stringify!($argument)),*],)*
                }
            }

            /// What the call returns, for programs that test it.
            #[must_use]
            pub const fn returns(self) -> Returns {
                use Returns::*;
                match self {
                    $(Call::$call => $returns,)*
                }
            }

            /// What the call returns, as Markdown.
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
    /// Does nothing and returns 0: the shortest path into ring 0 and back.
    0 Null SYS_NULL() -> Value(|_, _| 0), "0";
    /// `(buf, len)`: writes bytes to this CPU's console line. Returns how many were accepted, which may be
    /// fewer than offered: at most [`WRITE_SERIAL_MAX`], and no more than one line's end. `-EFAULT` if the range is not
    /// in the user half or its first byte cannot be read; 0 for a length of 0, whatever the pointer.
    1 WriteSerial SYS_WRITE_SERIAL(buf, len) -> Accepted, "number of bytes accepted, or `-EFAULT`";
    /// Ticks of this CPU since it came online.
    2 GetTicks SYS_GET_TICKS() -> Ticks, "timer ticks of this CPU since it came online";
    /// `(code)`: ends the program on this CPU. Never returns.
    3 Exit SYS_EXIT(code) -> Never, "does not return";
    /// The dense index of this CPU; 0 is the BSP.
    4 GetCpu SYS_GET_CPU() -> ThisCpu, "this CPU's number; 0 is the BSP";
    /// How many CPUs are online.
    5 CpuCount SYS_CPU_COUNT() -> CpuCount, "number of CPUs that are online; CPU numbers are below it";
    /// Nanoseconds since boot, monotonic.
    6 ClockNs SYS_CLOCK_NS() -> Clock, "nanoseconds since the kernel's start; never decreases on one CPU";
    /// `(id, value)`: puts a user event into this CPU's trace. Returns 0.
    7 Trace SYS_TRACE(id, value) -> Value(|_, _| 0), "0";
}

/// The table's numbers without a call.
pub const FREE: Range<u64> = Call::ALL.len() as u64..TABLE_LEN as u64;

impl Call {
    /// The number in rax.
    #[must_use]
    pub const fn number(self) -> u64 {
        self as u64
    }

    /// The call with this number.
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
            "the rows are in the order of the numbers, from 0 and without gaps"
        );
        n += 1;
    }
    assert!(n <= TABLE_LEN, "the dispatch table has an entry for every call");
};
