//! Entries into ring 0: the assembly, the Rust handlers that it calls, and the IDT that points to the assembly.

pub mod calls;
pub mod idt;
pub mod nmi;
pub mod points;
mod registers;
pub mod smap;
pub mod tick;
pub mod trap;
