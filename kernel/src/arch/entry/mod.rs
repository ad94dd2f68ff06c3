//! The entries into ring 0: their assembly, what each calls, and the tables that lead to them.

pub mod idt;
pub mod nmi;
pub mod points;
pub mod smap;
pub mod tick;
pub mod trap;
