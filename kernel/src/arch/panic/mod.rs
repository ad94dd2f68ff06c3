//! What a CPU says of itself: the panic that stops all others, self-checks, register dumps, reports of rare events.

pub mod check;
pub mod dump;
pub mod rare;
pub mod stop;
