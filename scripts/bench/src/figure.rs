//! Figures, and the table and the JSON of all of them.

use machine::report::aligned;
use serde::Serialize;

/// The version of the JSON. It changes when a field changes its meaning or goes away.
pub const VERSION: u32 = 1;

/// How a figure was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Instructions under `-icount shift=0,sleep=off`. The same on every host.
    Exact,
    /// The median of several measurements on this host, which alternate with those that they are compared with.
    Ratio,
    /// Read from a file or from the kernel's own report.
    Size,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Method::Exact => "exact",
            Method::Ratio => "ratio",
            Method::Size => "size",
        }
    }
}

/// A measured value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// The name, unique in its section.
    pub name: String,
    /// The value, in `unit`.
    pub value: f64,
    /// The unit.
    pub unit: &'static str,
    /// The method.
    pub method: Method,
    /// The lowest and the highest of the measurements whose median is `value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread: Option<[f64; 2]>,
    /// The value as a multiple of the floor: the shortest possible round trip.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floors: Option<f64>,
    /// The same quantity of another kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<f64>,
    /// Whether the suite compares an exact figure with the baseline.
    #[serde(skip)]
    pub is_compared: bool,
}

impl Figure {
    /// An exact figure.
    pub fn exact(name: impl Into<String>, instructions: f64) -> Figure {
        Figure::of(name, instructions, "instructions", Method::Exact)
    }

    /// A figure without spread, floor or peer.
    pub fn of(name: impl Into<String>, value: f64, unit: &'static str, method: Method) -> Figure {
        Figure {
            name: name.into(),
            value,
            unit,
            method,
            spread: None,
            floors: None,
            peer: None,
            is_compared: true,
        }
    }

    /// Leaves the figure out of the baseline, because it depends on more than the measured code.
    #[must_use]
    pub fn outside_baseline(self) -> Figure {
        Figure { is_compared: false, ..self }
    }

    /// The median of measurements, with their spread.
    pub fn median(name: impl Into<String>, values: &[f64], unit: &'static str) -> Figure {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let spread = Some([at(0), at(sorted.len().saturating_sub(1))]);
        Figure { spread, ..Figure::of(name, at(sorted.len() / 2), unit, Method::Ratio) }
    }
}

/// Figures that were measured together.
#[derive(Clone, Debug, Serialize)]
pub struct Section {
    /// The name.
    pub name: String,
    /// How the figures were measured.
    pub how: String,
    /// The figures.
    pub figures: Vec<Figure>,
}

/// Everything that one run of the command has measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// See [`VERSION`].
    pub version: u32,
    /// The sections, in the order of measurement.
    pub sections: Vec<Section>,
}

impl Report {
    /// A report without sections.
    #[must_use]
    pub fn new() -> Report {
        Report { version: VERSION, sections: Vec::new() }
    }

    /// Returns the exact figures that the baseline contains, with the names of their sections.
    pub fn exact(&self) -> impl Iterator<Item = (&str, &Figure)> {
        self.sections.iter().flat_map(|section| {
            let exact = section.figures.iter();
            let exact = exact.filter(|figure| figure.method == Method::Exact && figure.is_compared);
            exact.map(|figure| (&*section.name, figure))
        })
    }

    /// Formats the table.
    #[must_use]
    pub fn text(&self) -> String {
        let columns = [
            ("FIGURE", false),
            ("VALUE", true),
            ("UNIT", false),
            ("METHOD", false),
            ("SPREAD", false),
            ("FLOORS", true),
            ("PEER", true),
            ("PEER/VALUE", true),
        ];
        let mut text = String::new();
        for section in &self.sections {
            text += &format!("\n{}\n  {}\n", section.name, section.how);
            text += &aligned(&columns, section.figures.iter().map(cells));
        }
        text
    }

    /// Formats the JSON.
    #[must_use]
    pub fn json(&self) -> String {
        // Serialising numbers and strings cannot fail.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

impl Default for Report {
    fn default() -> Report {
        Report::new()
    }
}

fn cells(figure: &Figure) -> [String; 8] {
    let optional = |value: Option<f64>| value.map(number).unwrap_or_default();
    [
        figure.name.clone(),
        number(figure.value),
        figure.unit.to_owned(),
        figure.method.name().to_owned(),
        figure.spread.map(|[low, high]| format!("{} to {}", number(low), number(high))).unwrap_or_default(),
        optional(figure.floors),
        optional(figure.peer),
        optional(figure.peer.map(|peer| peer / figure.value)),
    ]
}

/// Formats a number with at most two digits after the point, and none if they are zero.
#[must_use]
pub fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    match text.strip_suffix(".00") {
        Some(whole) => whole.to_owned(),
        None => text.strip_suffix('0').unwrap_or(&text).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_no_superfluous_zeros() {
        for (value, text) in [(36.0, "36"), (136.5, "136.5"), (0.96, "0.96"), (100.0, "100"), (0.001, "0")] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn median_has_the_spread() {
        let figure = Figure::median("x", &[3.0, 1.0, 2.0], "ms");
        assert_eq!((figure.value, figure.spread), (2.0, Some([1.0, 3.0])));
    }

    #[test]
    fn table_and_json_have_every_figure() {
        let mut report = Report::new();
        let mut null = Figure::exact("null", 36.0);
        null.peer = Some(331.0);
        let figures = vec![null, Figure::median("two CPUs", &[0.9, 1.0, 0.8], "times")];
        report.sections.push(Section { name: "calls".to_owned(), how: "how".to_owned(), figures });
        let text = report.text();
        assert!(text.contains("null") && text.contains("9.19") && text.contains("0.8 to 1"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&report.json()).expect("it must be JSON");
        assert_eq!(json["sections"][0]["figures"][0]["value"], 36.0);
        assert_eq!(json["sections"][0]["figures"][1]["method"], "ratio");
        assert_eq!(report.exact().count(), 1);
    }
}
