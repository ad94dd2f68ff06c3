//! Colours of system calls in pictures.

use std::fmt::Write;

use kernel_abi::syscall::{Call, TABLE_LEN};

/// A colour for each entry of the system-call table, so that a new call already has one. The first ones are close to
/// Okabe and Ito's palette, which colour-blind people can distinguish. All are light enough for black labels.
const CALLS: [&str; TABLE_LEN] = [
    "#4fb3ee", "#f0a500", "#1fa774", "#ef5a9d", "#f0e442", "#8f7040", "#f0bdf7", "#8a80f2", "#9dd9a3",
    "#d4b483", "#b39ddb", "#f4a6a0", "#80cbc4", "#c5e06e", "#ffcc80", "#b7a298",
];
/// The colour for numbers without a system call.
const OTHER: &str = "#f4693a";

/// Colours that depend on the background.
struct Theme {
    /// The background.
    ground: &'static str,
    /// A bar of idle time. It is close to the background, and has a border in the colour of ring 3.
    idle: &'static str,
    /// The line that represents ring 3.
    ring3: &'static str,
}

const LIGHT: Theme = Theme { ground: "#ffffff", idle: "#e1e6ec", ring3: "#59636e" };
const DARK: Theme = Theme { ground: "#0d1117", idle: "#262c34", ring3: "#9fa8b2" };

/// Returns each call and its colour.
fn calls() -> impl Iterator<Item = (Call, &'static str)> {
    Call::ALL.into_iter().zip(CALLS)
}

/// Returns the CSS rules for an SVG: classes `call0`, `call1`, ..., `other`, `idle`, `ring3` and `ground`.
pub fn classes() -> String {
    let mut text = String::new();
    for (call, colour) in calls() {
        // Writing to a `String` cannot fail, here and below.
        let _ = writeln!(text, ".call{} {{ fill: {colour}; }}", call.number());
    }
    let themed = |Theme { ground, idle, ring3 }: &Theme| {
        format!(
            ".ground {{ fill: {ground}; }} .idle {{ fill: {idle}; stroke: {ring3}; }} .ring3 {{ stroke: {ring3}; }}"
        )
    };
    let (light, dark) = (themed(&LIGHT), themed(&DARK));
    text + &format!(
        ".other {{ fill: {OTHER}; }}\n{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}\n"
    )
}

/// Returns the CSS variables: `--call0`, `--call1` and so on, then one for numbers without a system call, and one for
/// idle time. The background, idle time and ring 3 are `--ground`, `--idle` and `--ring3`.
pub fn variables() -> String {
    let mut text = String::from(":root {");
    for (call, colour) in calls() {
        let _ = write!(text, " --call{}: {colour};", call.number());
    }
    let (other, idle) = (Call::ALL.len(), Call::ALL.len() + 1);
    let themed = |Theme { ground, idle, ring3 }: &Theme| {
        format!("--ground: {ground}; --idle: {idle}; --ring3: {ring3};")
    };
    let (light, dark) = (themed(&LIGHT), themed(&DARK));
    text + &format!(
        " --call{other}: {OTHER}; --call{idle}: var(--idle); {light} }}\n\
         @media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The minimum difference between the colours of two bars: about five times the smallest visible difference.
    const DIFFERENCE_MIN: f64 = 0.1;
    /// The minimum contrast of small text, and of lines (WCAG 2, 1.4.3 and 1.4.11).
    const TEXT_CONTRAST: f64 = 4.5;
    const LINE_CONTRAST: f64 = 3.0;

    /// Converts `#rrggbb` to linear intensities of red, green and blue, from 0 to 1.
    fn linear(colour: &str) -> [f64; 3] {
        let part = |at: usize| {
            f64::from(u8::from_str_radix(&colour[at..at + 2], 16).expect("it must be hexadecimal")) / 255.0
        };
        [1, 3, 5]
            .map(part)
            .map(|part| if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) })
    }

    fn weighted<const N: usize>(rows: [[f64; 3]; N], by: [f64; 3]) -> [f64; N] {
        rows.map(|row| row.iter().zip(by).map(|(weight, part)| weight * part).sum())
    }

    /// Returns the perceived difference between two colours: their distance in Oklab. Between black and white it is 1.
    fn difference(a: &str, b: &str) -> f64 {
        let lab = |colour| {
            let cones = weighted(
                [
                    [0.412_221, 0.536_333, 0.051_446],
                    [0.211_903, 0.680_700, 0.107_397],
                    [0.088_302, 0.281_719, 0.629_979],
                ],
                linear(colour),
            );
            weighted(
                [
                    [0.210_454, 0.793_618, -0.004_072],
                    [1.977_998, -2.428_592, 0.450_594],
                    [0.025_904, 0.782_772, -0.808_676],
                ],
                cones.map(f64::cbrt),
            )
        };
        lab(a).into_iter().zip(lab(b)).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
    }

    /// Returns the contrast of two colours: 1 to 21.
    fn contrast(a: &str, b: &str) -> f64 {
        let light = |colour| weighted([[0.2126, 0.7152, 0.0722]], linear(colour))[0] + 0.05;
        let (a, b) = (light(a), light(b));
        a.max(b) / a.min(b)
    }

    #[test]
    fn colours_are_distinct() {
        let used: Vec<_> = calls().map(|(_, colour)| colour).chain([OTHER]).collect();
        for theme in [LIGHT, DARK] {
            let all: Vec<_> = used.iter().copied().chain([theme.idle, theme.ring3]).collect();
            for (n, a) in all.iter().enumerate() {
                for b in &all[n + 1..] {
                    let difference = difference(a, b);
                    assert!(difference >= DIFFERENCE_MIN, "{a} and {b}: {difference:.3}");
                }
            }
        }
        let colours: BTreeSet<_> = CALLS.into_iter().chain([OTHER]).collect();
        assert_eq!(colours.len(), TABLE_LEN + 1);
    }

    #[test]
    fn labels_and_lines_have_contrast() {
        assert!((contrast("#000000", "#ffffff") - 21.0).abs() < 0.01);
        for colour in CALLS.into_iter().chain([OTHER]) {
            assert!(contrast(colour, "#000000") >= TEXT_CONTRAST, "black on {colour}");
        }
        for Theme { ground, idle, ring3 } in [LIGHT, DARK] {
            assert!(contrast(ring3, ground) >= LINE_CONTRAST, "{ring3} on {ground}");
            assert!(contrast(ring3, idle) >= LINE_CONTRAST, "the border of {idle}");
        }
    }

    #[test]
    fn every_call_has_a_class_and_a_variable() {
        let (classes, variables) = (classes(), variables());
        for call in Call::ALL {
            let number = call.number();
            assert!(classes.contains(&format!(".call{number} {{")), "{} in {classes}", call.name());
            assert!(variables.contains(&format!(" --call{number}: #")), "{} in {variables}", call.name());
        }
    }
}
