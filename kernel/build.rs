//! Tells the linker where the kernel lies, and the compiler where the embedded programs are.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));

    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let script = root.join("src/arch/boot/kernel.ld");
        println!("cargo:rerun-if-changed={}", script.display());
        println!("cargo:rustc-link-arg-bins=-T{}", script.display());
        // The target's default is a position-independent executable; this one has one address.
        println!("cargo:rustc-link-arg-bins=-no-pie");
        println!("cargo:rustc-link-arg-bins=-zmax-page-size=4096");
    }

    // A tar archive of the ring-3 programs; without it, as in a build for the host, an empty one.
    println!("cargo:rerun-if-env-changed=RINGSIDE_PROGRAMS");
    let given = env::var_os("RINGSIDE_PROGRAMS").map(PathBuf::from);
    if let Some(archive) = &given {
        // Not for the empty one: what this script writes itself is newer than its run, which would never end.
        println!("cargo:rerun-if-changed={}", archive.display());
    }
    let archive = given.unwrap_or_else(|| {
        let empty = out.join("no-programs.tar");
        fs::write(&empty, [0; 1024]).expect("OUT_DIR can be written");
        empty
    });
    println!("cargo:rustc-env=RINGSIDE_PROGRAMS={}", archive.display());
}
