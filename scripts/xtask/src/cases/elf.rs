//! Cases with invalid ELF files. The kernel rejects each on every CPU and names the reason.

use super::{Case, case};
use crate::broken::{DEFECTS, Defect};

/// Returns the cases.
pub fn cases() -> Vec<Case> {
    let row = |defect: &'static Defect| {
        let mut case = case(format!("elf::{}", defect.name), "--smp 2", "hello");
        case.defect = Some(defect);
        case.status(1).killed_on(2, "cannot load: ")
    };
    DEFECTS.iter().map(row).collect()
}
