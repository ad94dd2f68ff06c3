//! The subcommands `iso` and `image`, which build the kernel and write a CD-ROM image that starts it through GRUB, or a
//! disk image that starts it through UEFI.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use machine::cargo::Show;
use machine::error::Error;
use machine::iso::Contents;
use machine::options::Boot;
use machine::programs::Program;
use machine::{build, cmdline, image, iso, programs};
use output::eprintln;

/// Options of `iso` and `image`.
#[derive(Args, Clone, Debug)]
pub struct ImageOptions {
    /// The file to write.
    #[arg(value_name = "OUT")]
    pub out: PathBuf,

    /// PROGRAM: the name of an embedded program, or the path of a static ELF64 file. Default: selftest. Everything
    /// after it, options included, is passed to the program.
    #[arg(value_name = "PROGRAM", trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,

    /// Rate of the kernel's timer tick, in hertz. [default: 100]
    #[arg(long, value_name = "HZ", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub tick_hz: Option<u32>,

    /// Additional text for the kernel command line: 'key=value ...'.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub cmdline: Option<String>,
}

/// Writes an image for this boot protocol.
pub fn run(options: &ImageOptions, boot: Boot) -> Result<ExitCode, Error> {
    let (program, arguments) = match options.words.split_first() {
        Some((word, arguments)) => (Some(programs::resolve(word, &programs::embedded()?)?), arguments),
        None => (None, [].as_slice()),
    };
    let kernel = build::bootable(boot, build::everything(Show::Slow)?.kernel, false)?;
    let name = program.as_ref().map(Program::name);
    let cmdline = cmdline::compose(name, options.tick_hz, options.cmdline.as_deref(), arguments);
    let module = match &program {
        Some(Program::File(path, _)) => Some(path.as_path()),
        _ => None,
    };
    let contents = Contents { kernel: &kernel, module, cmdline: &cmdline };
    match boot {
        Boot::Image => image::make(contents, &options.out)?,
        _ => iso::make(contents, &options.out)?,
    }
    eprintln!("{} is written; it starts the kernel with the command line {cmdline:?}", options.out.display());
    Ok(ExitCode::SUCCESS)
}
