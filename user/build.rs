//! Passes the linker arguments for a static ELF at `PROGRAM_BASE`. The host needs none: host builds of the programs are
//! only checked and tested.

use std::env;
use std::path::Path;

use kernel_abi::layout::{PAGE_SIZE, PROGRAM_BASE};

fn main() {
    println!("cargo:rerun-if-changed=program.ld");
    println!("cargo:rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    let manifest_dir = env::var("CARGO_MANIFEST_DIR").expect("cargo must set CARGO_MANIFEST_DIR");
    let script = Path::new(&manifest_dir).join("program.ld");
    let arguments = [
        format!("-T{}", script.display()),
        // The target's default is a static PIE, but the kernel applies no relocations.
        "-no-pie".to_owned(),
        "--build-id=none".to_owned(),
        // The kernel maps each segment once with its final permissions, so no segment becomes read-only later.
        "-znorelro".to_owned(),
        format!("--defsym=PROGRAM_BASE={PROGRAM_BASE:#x}"),
        format!("--defsym=PROGRAM_PAGE={PAGE_SIZE:#x}"),
    ];
    for argument in arguments {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
