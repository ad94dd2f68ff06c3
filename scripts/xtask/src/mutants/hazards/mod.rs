//! The hazards of the boundary between ring 3 and ring 0: the table of `docs/security.md`. Each hazard has a guard, the
//! tests of the guard, and the mutants that lack it.

mod bring_up;
mod interrupts;
mod system_calls;

/// A row of the table.
pub struct Hazard {
    /// The failure.
    pub hazard: &'static str,
    /// The guard that prevents the failure.
    pub guard: &'static str,
    /// The tests: cases and checks of the suite (a final `*` matches any ending), and host tests, written as
    /// `crate: module::tests::name`.
    pub shown: &'static [&'static str],
    /// Names of the mutants that lack the guard.
    pub mutants: &'static [&'static str],
    /// A remark: why something is not tested, or where it is tested.
    pub note: &'static str,
}

/// A part of the table: a heading and its rows.
pub type Part = (&'static str, &'static [Hazard]);

/// All parts of the table.
pub const HAZARDS: [Part; 3] = [
    ("System calls", system_calls::SYSTEM_CALLS),
    ("Interrupts, NMI and IST", interrupts::INTERRUPTS),
    ("Bring-up and time", bring_up::BRING_UP),
];

const fn row(
    hazard: &'static str,
    guard: &'static str,
    shown: &'static [&'static str],
    mutants: &'static [&'static str],
    note: &'static str,
) -> Hazard {
    Hazard { hazard, guard, shown, mutants, note }
}

/// Formats the table for the page, with a heading for each part.
pub fn markdown() -> String {
    let part = |(heading, rows): &Part| {
        let rows: String = rows.iter().map(line).collect();
        format!("### {heading}\n\n| hazard | guard | tests | mutants |\n|-|-|-|-|\n{rows}")
    };
    HAZARDS.iter().map(part).collect::<Vec<_>>().join("\n")
}

fn line(row: &Hazard) -> String {
    let code = |words: &[&str]| {
        let quoted: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
        if quoted.is_empty() { "none".to_owned() } else { quoted.join(", ") }
    };
    let note = if row.note.is_empty() { String::new() } else { format!(". {}", capitalized(row.note)) };
    format!("| {} | {} | {}{note} | {} |\n", row.hazard, row.guard, code(row.shown), code(row.mutants))
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests;
