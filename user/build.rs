//! Hands the linker what makes a program a static ELF at `PROGRAM_BASE`. On the host nothing is needed: there
//! the programs are built only to be checked.

use std::env;
use std::path::Path;

use kernel_abi::layout::{PAGE_SIZE, PROGRAM_BASE};

fn main() {
    println!("cargo:rerun-if-changed=program.ld");
    println!("cargo:rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    let manifest_dir = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let script = Path::new(&manifest_dir).join("program.ld");
    let arguments = [
        format!("-T{}", script.display()),
        // The target's default is a static PIE, which would need its relocations applied by somebody.
        "-no-pie".to_owned(),
        "--build-id=none".to_owned(),
        // The kernel maps each segment once with its final rights: there is nothing to protect later.
        "-znorelro".to_owned(),
        format!("--defsym=PROGRAM_BASE={PROGRAM_BASE:#x}"),
        format!("--defsym=PROGRAM_PAGE={PAGE_SIZE:#x}"),
    ];
    for argument in arguments {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
