//! Cases that start the kernel by other boot protocols than PVH.

use machine::tree::relative;

use super::{Case, case, program_path};

/// The cases.
pub fn cases() -> Vec<Case> {
    vec![
        case("boot::iso", "--boot iso --smp 4", "selftest").exits_on(4),
        // GRUB loads the program's file as a module and joins the arguments to the command line.
        case(
            "boot::iso-module",
            "--boot iso --smp 1",
            &format!("{} a 'b c' 'x\"y' \"it's\"", relative(&program_path("args")).display()),
        )
        .exits_on(1)
        .shows("argv[2]=<b c>")
        .shows(r#"argv[3]=<x\"y>"#)
        .shows(r"argv[4]=<it\'s>"),
        case("boot::iso-empty-argument", "--boot iso --smp 1", "args ''")
            .status(2)
            .complains("GRUB cannot pass \"\""),
    ]
}
