//! The verdict on a run: the value that the kernel writes to QEMU's `isa-debug-exit` device.

/// The device's I/O port, as the host tool passes it to QEMU (`-device isa-debug-exit,iobase=0xf4,iosize=0x04`).
pub const DEBUG_EXIT_PORT: u16 = 0xf4;

/// The outcome of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Verdict {
    /// Every online CPU ran its program, and each program exited with code 0.
    Pass = 0x10,
    /// A program exited with a code other than 0, was killed, or could not be loaded.
    ProgramFailed = 0x11,
    /// The kernel panicked or found a broken invariant.
    Panic = 0x12,
    /// The command line has an unknown key or a bad value.
    BadCommandLine = 0x13,
}

impl Verdict {
    /// All verdicts.
    pub const ALL: [Verdict; 4] =
        [Verdict::Pass, Verdict::ProgramFailed, Verdict::Panic, Verdict::BadCommandLine];

    /// Returns the exit status of the QEMU process, which is `(value << 1) | 1` with `isa-debug-exit`. A pass is 33.
    #[must_use]
    pub const fn qemu_status(self) -> i32 {
        ((self as i32) << 1) | 1
    }

    /// Returns the verdict for an exit status of QEMU. 0 (the guest was reset) and 1 (a QEMU error) are not verdicts.
    #[must_use]
    pub fn from_qemu_status(status: i32) -> Option<Verdict> {
        Verdict::ALL.into_iter().find(|verdict| verdict.qemu_status() == status)
    }

    /// Returns the name of the verdict in records: `pass`, `failed`, `panic` or `bad-command-line`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::ProgramFailed => "failed",
            Verdict::Panic => "panic",
            Verdict::BadCommandLine => "bad-command-line",
        }
    }

    /// Returns the verdict with this [`name`](Self::name).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Verdict> {
        Verdict::ALL.into_iter().find(|verdict| verdict.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pass_is_33_and_no_verdict_is_0_or_1() {
        assert_eq!(Verdict::Pass.qemu_status(), 33);
        assert_eq!(Verdict::from_qemu_status(0), None);
        assert_eq!(Verdict::from_qemu_status(1), None);
        for verdict in Verdict::ALL {
            assert_eq!(Verdict::from_qemu_status(verdict.qemu_status()), Some(verdict));
            assert_eq!(Verdict::from_name(verdict.name()), Some(verdict));
        }
    }
}
