//! Selects loom's atomics in the kernel's modules. A flag for the compiler in RUSTFLAGS would apply to all crates, which
//! would then be built twice.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cfg=loom");
}
