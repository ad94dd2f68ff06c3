//! Compares registers between CPUs: some must differ on every CPU, and all others must be equal.

use std::collections::HashMap;

use kernel_abi::cpu_state::{REGISTERS, Rule};
use kernel_abi::record::StateRecord;
use serde_json::Value;

/// Returns a sentence for each register that violates its rule.
pub fn conflicts(states: &[StateRecord]) -> Vec<String> {
    let mut found = Vec::new();
    for (n, (name, rule)) in REGISTERS.iter().enumerate() {
        let mut owners = HashMap::new();
        for state in states {
            let value = state.registers[n];
            let first = states[0].registers[n];
            match (rule, owners.insert(value, state.cpu)) {
                (Rule::Own, Some(other)) => found.push(format!(
                    "CPU {other} and CPU {} must not have the same {name}, but both have {value:#x}",
                    state.cpu
                )),
                (Rule::Same, _) if value != first => found.push(format!(
                    "{name} is {value:#x} on CPU {}, and {first:#x} on CPU {}",
                    state.cpu, states[0].cpu
                )),
                _ => {}
            }
        }
    }
    found
}

/// Formats a block of text for each CPU, with three registers per line.
pub fn blocks(states: &[StateRecord]) -> String {
    let mut sorted: Vec<_> = states.iter().collect();
    sorted.sort_by_key(|state| state.cpu);
    let block = |state: &StateRecord| {
        let cells: Vec<_> = REGISTERS
            .iter()
            .zip(state.registers)
            .map(|((name, _), value)| format!("{name:14} {value:#018x}"))
            .collect();
        let lines: String = cells.chunks(3).map(|line| format!("  {}\n", line.join("  "))).collect();
        format!("CPU {}, APIC id {}\n{lines}", state.cpu, state.apic_id)
    };
    sorted.into_iter().map(block).collect::<Vec<_>>().join("\n")
}

/// Returns the registers by name. The values are hexadecimal strings because JSON numbers lose precision above 2^53.
pub fn json(state: &StateRecord) -> Value {
    REGISTERS
        .iter()
        .zip(state.registers)
        .map(|((name, _), value)| ((*name).to_owned(), Value::from(format!("{value:#x}"))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns two CPUs without conflicts.
    fn valid() -> Vec<StateRecord> {
        [0, 1]
            .map(|cpu| {
                let value = |rule| if rule == Rule::Own { 0x1000 + u64::from(cpu) } else { 0x2000 };
                StateRecord { cpu, apic_id: cpu * 2, registers: REGISTERS.map(|(_, rule)| value(rule)) }
            })
            .to_vec()
    }

    #[test]
    fn each_conflict_names_its_register() {
        assert_eq!(conflicts(&valid()), [""; 0]);
        for (n, (name, rule)) in REGISTERS.iter().enumerate() {
            let mut states = valid();
            states[1].registers[n] = if *rule == Rule::Own { states[0].registers[n] } else { 0x2001 };
            let expected = match rule {
                Rule::Own => format!("CPU 0 and CPU 1 must not have the same {name}, but both have 0x1000"),
                Rule::Same => format!("{name} is 0x2001 on CPU 1, and 0x2000 on CPU 0"),
            };
            assert_eq!(conflicts(&states), [expected]);
        }
    }

    #[test]
    fn blocks_and_json_have_every_register() {
        let states = valid();
        let text = blocks(&states);
        let json = json(&states[1]);
        for (name, _) in REGISTERS {
            // Search for the name with blanks around it, as some names are prefixes of others.
            assert!(text.matches(&format!(" {name} ")).count() >= 2, "{name}");
            assert!(json[name].as_str().is_some_and(|value| value.starts_with("0x")), "{name}");
        }
        assert!(text.starts_with("CPU 0, APIC id 0\n  TR ") && text.contains("\nCPU 1, APIC id 2\n"));
    }
}
