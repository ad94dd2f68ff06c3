//! Shortens what QEMU prints on standard error. For each CPU it repeats a warning for each feature that TCG lacks.

/// The text before the feature in such a warning.
const LACKS: &str = "TCG doesn't support requested feature: ";

/// Returns the text with one line for all features that TCG lacks, and with each other line once.
pub fn collapsed(text: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    let mut features: Vec<&str> = Vec::new();
    for line in text.lines() {
        match line.split_once(LACKS) {
            Some((_, feature)) => {
                // Take only the name from `CPUID.01H:ECX.pcid [bit 17]`.
                let name = feature.split(" [").next().unwrap_or(feature);
                let name = name.rsplit('.').next().unwrap_or(name);
                if !features.contains(&name) {
                    features.push(name);
                }
            }
            None if lines.contains(&line) => {}
            None => lines.push(line),
        }
    }
    let lacking = format!("warning: TCG lacks these features of the CPU model: {}", features.join(", "));
    let lacking = (!features.is_empty()).then_some(lacking.as_str());
    lacking.into_iter().chain(lines).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_that_tcg_lacks_take_one_line() {
        let line = |feature: &str| format!("q: warning: TCG doesn't support requested feature: {feature}\n");
        let of_cpu =
            line("CPUID.01H:ECX.pcid [bit 17]") + &line("CPUID.0DH:EAX.xsavec [bit 1]") + "q: other\n";
        assert_eq!(
            collapsed(&of_cpu.repeat(2)),
            "warning: TCG lacks these features of the CPU model: pcid, xsavec\nq: other"
        );
        assert_eq!(collapsed("q: a\nq: b\n"), "q: a\nq: b");
        assert_eq!(collapsed(""), "");
    }
}
