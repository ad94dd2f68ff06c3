//! Formats HTML elements. All text that is not markup passes through [`escaped`].

use std::fmt::Write;

use output::{is_unprintable, printable};
use serde::Serialize;

/// Escapes text for an element or a quoted attribute. Control characters are made visible.
pub fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html += "&amp;",
            '<' => html += "&lt;",
            '>' => html += "&gt;",
            '"' => html += "&quot;",
            '\'' => html += "&#39;",
            '\n' => html.push(c),
            c if is_unprintable(c) => html += &printable(c.to_string().as_bytes()),
            c => html.push(c),
        }
    }
    html
}

/// Serialises JSON for a `script` element. `<` is escaped, so that the JSON cannot end the element.
pub fn script_json(value: &impl Serialize) -> String {
    // Serialising numbers and strings cannot fail.
    serde_json::to_string(value).unwrap_or_default().replace('<', "\\u003c")
}

/// The heading of a table column, or the name of a fact; it determines the format of the values.
#[derive(Clone, Copy)]
pub enum Column<'a> {
    /// Numbers, right-aligned.
    Number(&'a str),
    /// Text.
    Text(&'a str),
    /// A command or a path, in a monospace font.
    Code(&'a str),
}

/// Formats a table. Cells are plain text; this function escapes them.
pub fn table(caption: &str, columns: &[Column<'_>], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut html = format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{0}\"><table><caption><span>{0}</span></caption><thead><tr>",
        escaped(caption)
    );
    for column in columns {
        let (Column::Number(name) | Column::Text(name) | Column::Code(name)) = column;
        // Writing to a `String` cannot fail, here and below.
        let _ = write!(html, "<th scope=\"col\"{}>{}</th>", class(column), escaped(name));
    }
    html += "</tr></thead><tbody>\n";
    for row in rows {
        html += "<tr>";
        for (column, cell) in columns.iter().zip(row) {
            let cell = match column {
                Column::Code(_) if !cell.is_empty() => format!("<code>{}</code>", escaped(&cell)),
                _ => escaped(&cell),
            };
            let _ = write!(html, "<td{}>{cell}</td>", class(column));
        }
        html += "</tr>\n";
    }
    html + "</tbody></table></div>\n"
}

/// Returns the class attribute of a column's cells.
fn class(column: &Column<'_>) -> &'static str {
    if matches!(column, Column::Number(_)) { " class=\"n\"" } else { "" }
}

/// Formats a collapsed element. Its content is shown when the user opens it.
pub fn folded(summary: &str, content: &str) -> String {
    format!("<details><summary>{}</summary>\n{content}</details>\n", escaped(summary))
}

/// Formats a list of names and values.
pub fn facts(facts: &[(Column<'_>, String)]) -> String {
    let one = |(column, value): &(Column<'_>, String)| {
        let (Column::Number(name) | Column::Text(name) | Column::Code(name)) = column;
        let value = match column {
            Column::Code(_) => format!("<code>{}</code>", escaped(value)),
            _ => escaped(value),
        };
        format!("<div><dt>{}</dt><dd>{value}</dd></div>\n", escaped(name))
    };
    format!("<dl class=\"facts\">\n{}</dl>\n", facts.iter().map(one).collect::<String>())
}
