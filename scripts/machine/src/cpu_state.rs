//! The CPUs' states side by side: what must be each CPU's own, and what must be the same on all of them.

use std::collections::HashMap;

use kernel_abi::cpu_state::{REGISTERS, Rule};
use kernel_abi::record::StateRecord;
use serde_json::Value;

/// What is not as it must be, in whole sentences.
pub fn conflicts(states: &[StateRecord]) -> Vec<String> {
    let mut found = Vec::new();
    for (n, (name, rule)) in REGISTERS.iter().enumerate() {
        let mut owners = HashMap::new();
        for state in states {
            let value = state.registers[n];
            let first = states[0].registers[n];
            match (rule, owners.insert(value, state.cpu)) {
                (Rule::Own, Some(other)) => found.push(format!(
                    "CPU {other} and CPU {} have the same {name}, {value:#x}, and must not",
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

/// A block for each CPU, three registers a line.
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

/// The registers by name. Hexadecimal texts, since JSON's numbers lose digits beyond 2^53.
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

    /// Two CPUs as they should be.
    fn sound() -> Vec<StateRecord> {
        [0, 1]
            .map(|cpu| {
                let value = |rule| if rule == Rule::Own { 0x1000 + u64::from(cpu) } else { 0x2000 };
                StateRecord { cpu, apic_id: cpu * 2, registers: REGISTERS.map(|(_, rule)| value(rule)) }
            })
            .to_vec()
    }

    #[test]
    fn each_register_that_is_shared_or_differs_is_named() {
        assert_eq!(conflicts(&sound()), [""; 0]);
        for (n, (name, rule)) in REGISTERS.iter().enumerate() {
            let mut states = sound();
            states[1].registers[n] = if *rule == Rule::Own { states[0].registers[n] } else { 0x2001 };
            let expected = match rule {
                Rule::Own => format!("CPU 0 and CPU 1 have the same {name}, 0x1000, and must not"),
                Rule::Same => format!("{name} is 0x2001 on CPU 1, and 0x2000 on CPU 0"),
            };
            assert_eq!(conflicts(&states), [expected]);
        }
    }

    #[test]
    fn a_block_has_every_register_and_so_has_the_json() {
        let states = sound();
        let text = blocks(&states);
        let json = json(&states[1]);
        for (name, _) in REGISTERS {
            // Some names begin like others.
            assert!(text.matches(&format!(" {name} ")).count() >= 2, "{name}");
            assert!(json[name].as_str().is_some_and(|value| value.starts_with("0x")), "{name}");
        }
        assert!(text.starts_with("CPU 0, APIC id 0\n  TR ") && text.contains("\nCPU 1, APIC id 2\n"));
    }
}
