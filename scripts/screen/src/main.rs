//! `screen FILE`: prints the text in a picture of the kernel's screen, each row after its colour as in HTML. Blank rows
//! are blank lines.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;

use output::{eprintln, println};
use screen::{Picture, Row};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [file] = &arguments[..] else {
        eprintln!("usage: screen FILE; FILE is what QEMU's command screendump has written");
        return ExitCode::from(2);
    };
    match rows(Path::new(file)) {
        Ok(rows) => {
            for Row { text, colour: [red, green, blue] } in rows {
                if text.is_empty() {
                    println!("");
                } else {
                    println!("#{red:02x}{green:02x}{blue:02x} {text}");
                }
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn rows(file: &Path) -> Result<Vec<Row>, String> {
    let name = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let bytes = std::fs::read(file).map_err(|error| name(&error))?;
    let picture = Picture::parse(&bytes).map_err(|error| name(&error))?;
    screen::read(&picture).map_err(|error| name(&error))
}
