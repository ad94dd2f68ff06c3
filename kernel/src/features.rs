//! The CPU features that the kernel and its programs require, and the optional ones that the kernel uses. Each CPU is
//! checked before it uses any of them. The features in [`REQUIRED`] are checked in `start.S` on the BSP and in the AP
//! trampoline on the other CPUs. The features in [`IN_64_BIT_MODE`], which some CPUs report only in 64-bit mode, are
//! checked by `arch::cpu::control::check_features`. The kernel uses the optional [`Features`] that the BSP has, except
//! those that the command line excludes. Each AP checks at its entry point that it has these features.
#![forbid(unsafe_code)]

use core::fmt;

/// The CPUID leaf with the basic feature bits.
const BASIC: u32 = 1;
/// The CPUID leaf with the extended feature bits, such as long mode.
const EXTENDED: u32 = 0x8000_0001;

/// A required feature: a bit of EDX in one of the two leaves (SDM 2A, CPUID; APM 3, appendix D). The boot assembly
/// reads an array of this type.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// The CPUID leaf.
    pub leaf: u32,
    /// The bit in EDX.
    pub mask: u32,
    /// The name for messages, terminated by at least one NUL.
    pub name: [u8; 12],
}

/// The required features, except those in [`IN_64_BIT_MODE`].
pub const REQUIRED: [Feature; 14] = [
    // `fninit` resets the user x87 state.
    feature("FPU", BASIC, 0),
    // All clocks are derived from the time-stamp counter.
    feature("TSC", BASIC, 4),
    feature("MSR", BASIC, 5),
    feature("PAE", BASIC, 6),
    // CR4.MCE is set, because otherwise a machine check causes a shutdown.
    feature("MCE", BASIC, 7),
    // The local APIC provides the tick, IPIs and NMIs. The bit is also 0 if the APIC is disabled (SDM 3A, 11.4.3).
    feature("APIC", BASIC, 9),
    // The SYSENTER MSRs are cleared, so that SYSENTER faults.
    feature("SEP", BASIC, 11),
    // Compilers use CMOV in all x86-64 code.
    feature("CMOV", BASIC, 15),
    // IA32_PAT is set to its reset value.
    feature("PAT", BASIC, 16),
    // `fxrstor64` resets the user SSE state, and CR4.OSFXSR allows programs to use SSE.
    feature("FXSR", BASIC, 24),
    feature("SSE", BASIC, 25),
    feature("SSE2", BASIC, 26),
    // The page tables use NX, so that no page is both writable and executable.
    feature("NX", EXTENDED, 20),
    feature("64-bit mode", EXTENDED, 29),
];

/// The required features that Intel CPUs report only in 64-bit mode (SDM 2A, CPUID, leaf 0x8000_0001).
pub const IN_64_BIT_MODE: [Feature; 1] = [feature("SYSCALL", EXTENDED, 11)];

const fn feature(name: &str, leaf: u32, bit: u32) -> Feature {
    let mut row = Feature { leaf, mask: 1 << bit, name: [0; 12] };
    assert!(name.len() < row.name.len(), "a feature's name must end with a NUL");
    let mut at = 0;
    while at < name.len() {
        row.name[at] = name.as_bytes()[at];
        at += 1;
    }
    row
}

/// Returns whether this is the name of a required feature, in letters of any case.
#[must_use]
pub fn is_required(name: &str) -> bool {
    REQUIRED.iter().chain(&IN_64_BIT_MODE).any(|feature| {
        let required = feature.name.split(|&byte| byte == 0).next().unwrap_or_default();
        required.eq_ignore_ascii_case(name.as_bytes())
    })
}

/// A set of required features, as bits of EDX in the two CPUID leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureSet {
    /// The features in leaf 1.
    pub basic: u32,
    /// The features in leaf 0x8000_0001.
    pub extended: u32,
}

impl FeatureSet {
    /// The features in [`REQUIRED`].
    pub const REQUIRED: FeatureSet = FeatureSet::of(&REQUIRED);
    /// The features in [`IN_64_BIT_MODE`].
    pub const IN_64_BIT_MODE: FeatureSet = FeatureSet::of(&IN_64_BIT_MODE);

    const fn of(rows: &[Feature]) -> FeatureSet {
        let (mut set, mut at) = (FeatureSet { basic: 0, extended: 0 }, 0);
        while at < rows.len() {
            match rows[at].leaf {
                BASIC => set.basic |= rows[at].mask,
                _ => set.extended |= rows[at].mask,
            }
            at += 1;
        }
        set
    }

    /// Returns the features of this set that are missing in `basic` and `extended`, as a CPU reports them; `None` if
    /// none is missing.
    #[must_use]
    pub const fn missing_from(self, basic: u32, extended: u32) -> Option<FeatureSet> {
        match (self.basic & !basic, self.extended & !extended) {
            (0, 0) => None,
            (basic, extended) => Some(FeatureSet { basic, extended }),
        }
    }
}

impl fmt::Display for FeatureSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for row in REQUIRED.into_iter().chain(IN_64_BIT_MODE) {
            let mask = if row.leaf == BASIC { self.basic } else { self.extended };
            if mask & row.mask != 0 {
                let name = row.name.split(|&byte| byte == 0).next().unwrap_or_default();
                write!(f, "{separator}{}", name.escape_ascii())?;
                separator = ", ";
            }
        }
        Ok(())
    }
}

/// A set of optional CPU features: those that a CPU reports, or those that the kernel uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Supervisor-mode execution prevention.
    pub smep: bool,
    /// Supervisor-mode access prevention, which includes the instructions STAC and CLAC.
    pub smap: bool,
    /// User-mode instruction prevention: SGDT, SIDT, SLDT, SMSW, STR fault in ring 3.
    pub umip: bool,
    /// The local APIC supports x2APIC mode.
    pub x2apic: bool,
    /// RDTSCP or RDPID, which return IA32_TSC_AUX to ring 3.
    pub tsc_aux: bool,
}

/// An optional feature.
#[derive(Clone, Copy)]
pub struct Optional {
    /// The name for messages.
    pub name: &'static str,
    /// The word in `without=` that leaves the feature unused; `None` if the kernel cannot prevent ring 3 from using the
    /// feature.
    pub word: Option<&'static str>,
    /// Returns the feature's flag in a set.
    pub place: fn(&mut Features) -> &mut bool,
}

/// The optional features, in the order of messages.
pub const OPTIONAL: [Optional; 5] = [
    Optional { name: "SMEP", word: Some("smep"), place: |set| &mut set.smep },
    Optional { name: "SMAP", word: Some("smap"), place: |set| &mut set.smap },
    Optional { name: "UMIP", word: Some("umip"), place: |set| &mut set.umip },
    Optional { name: "x2APIC", word: Some("x2apic"), place: |set| &mut set.x2apic },
    // A program that finds RDTSCP in CPUID may rely on the CPU number that the instruction returns.
    Optional { name: "RDTSCP and RDPID", word: None, place: |set| &mut set.tsc_aux },
];

/// The longest value of `without=` that is accepted, in bytes. A list of all features is shorter.
pub const WITHOUT_MAX: usize = 64;

impl Features {
    /// The empty set.
    pub const NONE: Features =
        Features { smep: false, smap: false, umip: false, x2apic: false, tsc_aux: false };

    /// Returns the set with the one feature that a word of `without=` names; `None` if no feature has this word.
    #[must_use]
    pub fn named(word: &str) -> Option<Features> {
        let found = OPTIONAL.into_iter().find(|feature| feature.word == Some(word))?;
        let mut set = Features::NONE;
        *(found.place)(&mut set) = true;
        Some(set)
    }

    /// Returns the features of both sets.
    #[must_use]
    pub fn and(self, other: Features) -> Features {
        self.combined(other, |a, b| a || b)
    }

    /// Returns the features that are in both sets.
    #[must_use]
    pub fn common(self, other: Features) -> Features {
        self.combined(other, |a, b| a && b)
    }

    /// Returns the features of this set that are not in the other.
    #[must_use]
    pub fn without(self, other: Features) -> Features {
        self.combined(other, |a, b| a && !b)
    }

    fn combined(mut self, mut other: Features, keep: impl Fn(bool, bool) -> bool) -> Features {
        for Optional { place, .. } in OPTIONAL {
            let kept = keep(*place(&mut self), *place(&mut other));
            *place(&mut self) = kept;
        }
        self
    }

    /// Returns the features of this set that a CPU does not have; `None` if it has all.
    #[must_use]
    pub fn missing_from(self, cpu: Features) -> Option<Features> {
        let missing = self.without(cpu);
        (missing != Features::NONE).then_some(missing)
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut set, mut separator) = (*self, "");
        for feature in OPTIONAL {
            if *(feature.place)(&mut set) {
                write!(f, "{separator}{}", feature.name)?;
                separator = ", ";
            }
        }
        Ok(())
    }
}

/// The features whose absence keeps a CPU out of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingFeatures {
    /// Features that the kernel requires.
    Required(FeatureSet),
    /// Optional features that the kernel uses, because the BSP has them. All CPUs must have equal control registers.
    UsedByBsp(Features),
}

impl fmt::Display for MissingFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MissingFeatures::Required(features) => write!(f, "{features}"),
            MissingFeatures::UsedByBsp(features) => write!(f, "{features}, which the BSP uses"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn masks_have_every_feature_once() {
        for (set, rows) in
            [(FeatureSet::REQUIRED, &REQUIRED[..]), (FeatureSet::IN_64_BIT_MODE, &IN_64_BIT_MODE)]
        {
            assert_eq!((set.basic.count_ones() + set.extended.count_ones()) as usize, rows.len());
            for row in rows {
                assert!(matches!(row.leaf, BASIC | EXTENDED) && row.name.last() == Some(&0), "{row:?}");
            }
        }
        assert_eq!(FeatureSet::REQUIRED.extended & FeatureSet::IN_64_BIT_MODE.extended, 0);
    }

    #[test]
    fn missing_features_are_named() {
        let names = |basic, extended| FeatureSet { basic, extended }.to_string();
        assert_eq!(names(0, 0), "");
        assert_eq!(names(1 << 26 | 1 << 25, 1 << 20), "SSE, SSE2, NX");
        assert_eq!(names(1 << 15, 1 << 29 | 1 << 11), "CMOV, 64-bit mode, SYSCALL");
    }

    #[test]
    fn missing_features_are_those_that_are_not_reported() {
        let all = FeatureSet::REQUIRED;
        assert_eq!(all.missing_from(u32::MAX, u32::MAX), None);
        assert_eq!(all.missing_from(all.basic, all.extended), None);
        assert_eq!(all.missing_from(0, 0), Some(all));
        let expected = Some(FeatureSet { basic: 1 << 4, extended: 0 });
        assert_eq!(all.missing_from(all.basic & !(1 << 4), all.extended), expected);
    }

    #[test]
    fn cpu_may_have_more_optional_features_than_the_bsp_but_not_fewer() {
        let none = Features::NONE;
        let all = Features { smep: true, smap: true, umip: true, x2apic: true, tsc_aux: true };
        let one = [
            ("SMEP", Features { smep: true, ..none }),
            ("SMAP", Features { smap: true, ..none }),
            ("UMIP", Features { umip: true, ..none }),
            ("x2APIC", Features { x2apic: true, ..none }),
            ("RDTSCP and RDPID", Features { tsc_aux: true, ..none }),
        ];
        assert_eq!((all.missing_from(all), none.missing_from(all)), (None, None));
        for (name, feature) in one {
            assert_eq!(feature.missing_from(none), Some(feature));
            assert_eq!(feature.missing_from(feature), None);
            let lacks = all.missing_from(all.missing_from(feature).unwrap()).map(MissingFeatures::UsedByBsp);
            assert_eq!(lacks.unwrap().to_string(), std::format!("{name}, which the BSP uses"));
        }
        assert_eq!(all.missing_from(none).unwrap().to_string(), "SMEP, SMAP, UMIP, x2APIC, RDTSCP and RDPID");
    }

    #[test]
    fn sets_are_combined_feature_by_feature() {
        let set = |words: &[&str]| {
            words.iter().fold(Features::NONE, |set, word| set.and(Features::named(word).unwrap()))
        };
        assert_eq!(set(&["smap", "umip"]), Features { smap: true, umip: true, ..Features::NONE });
        assert_eq!(set(&["smap", "umip"]).without(set(&["umip", "smep"])), set(&["smap"]));
        assert_eq!(set(&["smap", "umip"]).common(set(&["umip", "smep"])), set(&["umip"]));
        assert_eq!(set(&["smap", "smap"]), set(&["smap"]));
        for word in ["", "SMAP", "rdtscp", "RDTSCP and RDPID", "sse2"] {
            assert_eq!(Features::named(word), None, "{word}");
        }
    }
}
