//! Failure handling: the panic path, checks of a CPU's invariants, register dumps, and deferred reports of rare events.

pub mod check;
pub mod dump;
pub mod rare;
pub mod stop;
