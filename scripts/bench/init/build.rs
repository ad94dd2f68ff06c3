//! Passes the linker arguments for a static ELF, as for the programs of Ringside. The host needs none.

#![allow(clippy::disallowed_macros, reason = "cargo reads the build script's standard output")]

use std::env;
use std::path::Path;

use kernel_abi::layout::{PAGE_SIZE, PROGRAM_BASE};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    let manifest_dir = env::var("CARGO_MANIFEST_DIR").expect("cargo must set CARGO_MANIFEST_DIR");
    let script = Path::new(&manifest_dir).join("../../../user/program.ld");
    println!("cargo:rerun-if-changed={}", script.display());
    for argument in [
        format!("-T{}", script.display()),
        "-no-pie".to_owned(),
        "--build-id=none".to_owned(),
        "-znorelro".to_owned(),
        format!("--defsym=PROGRAM_BASE={PROGRAM_BASE:#x}"),
        format!("--defsym=PROGRAM_PAGE={PAGE_SIZE:#x}"),
    ] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
