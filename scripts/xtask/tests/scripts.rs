//! Tests `run.sh`, `test.sh` and `setup.sh` in unusual environments. Small scripts replace cargo, QEMU and apt-get.
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "tests write their own files, and a failed write fails the test"
)]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

mod script;

/// The exit status for a host failure.
const HOST: Option<i32> = Some(5);

/// A fake cargo whose JSON output names the path of the "built" tool. The path is unusual, so a script cannot guess it.
const CARGO: &str = r#"case $* in
*--version*) echo "cargo 1.99.0" ;;
build*) printf '%s\n' '{"reason":"compiler-artifact","executable":null}' \
  '{"reason":"compiler-artifact","executable":"@elsewhere/the tool"}' '{"reason":"build-finished","success":true}' ;;
esac"#;

/// A source tree with the scripts, and a directory of fake programs that precedes the system's in `PATH`.
struct Checkout {
    folder: tempfile::TempDir,
}

impl Checkout {
    fn new() -> Checkout {
        let checkout = Checkout { folder: tempfile::tempdir().expect("cannot create a directory") };
        let scripts = checkout.path("tree/scripts");
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for folder in ["tree/scripts", "bin", "elsewhere"] {
            fs::create_dir_all(checkout.path(folder)).expect("cannot create a directory");
        }
        for name in ["run.sh", "test.sh", "setup.sh"] {
            fs::copy(ours.join(name), scripts.join(name)).expect("cannot copy the script");
        }
        for target in ["x86_64-unknown-none", "x86_64-unknown-uefi"] {
            fs::create_dir_all(checkout.path(&format!("sysroot/lib/rustlib/{target}/lib")))
                .expect("cannot create the target");
        }
        let sysroot = checkout.path("sysroot");
        let rustc =
            format!("case $* in *sysroot*) echo '{}' ;; *) echo 'rustc 1.99.0' ;; esac", sysroot.display());
        let elsewhere = checkout.path("elsewhere");
        checkout.program("bin/cargo", &CARGO.replace("@elsewhere", &elsewhere.display().to_string()));
        checkout.program("bin/rustc", &rustc);
        checkout.program("bin/qemu-system-x86_64", "exit 0");
        checkout
            .program("bin/apt-get", &format!("echo installed >>'{}'", checkout.path("installed").display()));
        checkout.program("elsewhere/the tool", "printf 'tool:%s\\n' \"$*\"; exit 42");
        checkout
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn program(&self, name: &str, script: &str) {
        script::write(&self.path(name), script);
    }

    /// Creates a command that runs in the parent directory of the tree.
    fn command(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        let system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env("PATH", format!("{}:{system}", self.path("bin").display()));
        command.env_remove("RINGSIDE_QEMU").env_remove("CDPATH").env_remove("RINGSIDE_CARGO");
        command
    }

    /// Returns whether a script started an installation.
    fn installed(&self) -> bool {
        self.path("installed").exists()
    }
}

fn output(command: &mut Command) -> Output {
    command.output().expect("cannot start the script")
}

#[track_caller]
fn reaches_the_tool(output: &Output, words: &str) {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(stdout, format!("tool:{words}\n"), "{stderr}");
    assert_eq!(output.status.code(), Some(42), "the tool's own status: {stderr}");
}

#[test]
fn tool_is_executed_at_the_path_that_cargo_prints() {
    let checkout = Checkout::new();
    let run = output(&mut checkout.command(checkout.path("tree/scripts/run.sh"), &["--smp", "2", "a b"]));
    reaches_the_tool(&run, "--smp 2 a b");
}

#[test]
fn cdpath_does_not_mislead_the_scripts() {
    let checkout = Checkout::new();
    fs::create_dir_all(checkout.path("other/scripts")).expect("cannot create the directory");
    for path in [".", "other", "tree"] {
        let mut command = checkout.command("scripts/run.sh", &["hello"]);
        command
            .current_dir(checkout.path("tree"))
            .env("CDPATH", format!("{path}:{}", checkout.path("other").display()));
        reaches_the_tool(&output(&mut command), "hello");
    }
}

#[test]
fn scripts_work_through_symbolic_links() {
    let checkout = Checkout::new();
    symlink("tree/scripts/run.sh", checkout.path("rs")).expect("cannot link");
    symlink("rs", checkout.path("link to a link")).expect("cannot link");
    symlink("tree", checkout.path("linked tree")).expect("cannot link");
    for name in ["rs", "link to a link", "linked tree/scripts/run.sh"] {
        reaches_the_tool(&output(&mut checkout.command(checkout.path(name), &["hello"])), "hello");
    }
}

#[test]
fn failed_build_of_the_tool_is_a_host_failure() {
    let checkout = Checkout::new();
    let failing = ["case $* in *--version*) echo 'cargo 1.99.0' ;; *) exit 101 ;; esac", CARGO];
    for cargo in failing {
        checkout.program("bin/cargo", cargo); // the second one names a nonexistent tool
        let run = output(&mut checkout.command(checkout.path("tree/scripts/run.sh"), &["hello"]));
        assert_eq!(run.status.code(), HOST);
        assert!(
            String::from_utf8_lossy(&run.stderr).contains("host tool"),
            "the message names the host tool"
        );
    }
}

#[test]
fn source_tree_without_setup_script_is_a_host_failure() {
    let checkout = Checkout::new();
    fs::remove_file(checkout.path("tree/scripts/setup.sh")).expect("cannot remove");
    for name in ["run.sh", "test.sh"] {
        let run = output(&mut checkout.command(checkout.path("tree/scripts").join(name), &["hello"]));
        assert_eq!(run.status.code(), HOST, "{name}");
    }
}

#[test]
fn missing_qemu_is_reported_with_its_variable_and_nothing_is_installed() {
    let checkout = Checkout::new();
    fs::remove_file(checkout.path("bin/qemu-system-x86_64")).expect("cannot remove");
    for script in ["tree/scripts/run.sh", "tree/scripts/test.sh", "tree/scripts/setup.sh"] {
        let mut command = checkout.command(checkout.path(script), &[]);
        let run = output(command.env("RINGSIDE_QEMU", "/nonexistent"));
        let stderr = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), HOST, "{stderr}");
        assert!(stderr.contains("RINGSIDE_QEMU=/nonexistent"), "{stderr}");
    }
    assert!(!checkout.installed());
}

#[test]
fn listing_and_help_install_nothing() {
    let checkout = Checkout::new();
    fs::remove_file(checkout.path("bin/qemu-system-x86_64")).expect("cannot remove");
    fs::remove_dir_all(checkout.path("sysroot")).expect("cannot remove");
    let calls = [
        ("test.sh", "--list", "test --list"),
        ("test.sh", "--help", "test --help"),
        ("run.sh", "--list", "--list"),
    ];
    for (script, option, words) in calls {
        let run = output(&mut checkout.command(checkout.path("tree/scripts").join(script), &[option]));
        reaches_the_tool(&run, words);
    }
    assert!(!checkout.installed());
}

#[test]
fn tool_that_does_not_run_is_reported_with_its_message() {
    let checkout = Checkout::new();
    checkout.program("bin/rustc", "echo 'no memory left' >&2; exit 1");
    let run = output(&mut checkout.command(checkout.path("tree/scripts/setup.sh"), &["--look"]));
    let stderr = String::from_utf8_lossy(&run.stderr);
    assert!(stderr.contains("rustc is in PATH but does not run: no memory left"), "{stderr}");
    assert!(!stderr.contains("cargo is in PATH"), "{stderr}");
}

#[test]
fn setup_that_cannot_print_is_a_host_failure() {
    let checkout = Checkout::new();
    let full = || fs::File::options().write(true).open("/dev/full").expect("cannot open a full device");
    for option in [None, Some("--help"), Some("--no-such-option")] {
        let mut command = checkout.command(checkout.path("tree/scripts/setup.sh"), option.as_slice());
        let run = output(command.stdout(full()).stderr(full()));
        assert_eq!(run.status.code(), HOST, "{option:?}");
    }
}

/// The scripts pass closed streams to the tool unchanged: bash opens nothing in their place.
#[test]
fn closed_stream_reaches_the_tool() {
    let checkout = Checkout::new();
    // The executable of `run.sh` has the options of the tool's subcommand `run`.
    let tool = env!("CARGO_BIN_EXE_xtask");
    checkout.program(
        "elsewhere/the tool",
        &format!("case $1 in test) ;; *) set -- run \"$@\" ;; esac; exec '{tool}' \"$@\""),
    );
    for script in ["run.sh", "test.sh"] {
        let path = checkout.path("tree/scripts").join(script);
        let status = |redirections: &str| {
            let own = ["-c", &format!("exec \"$0\" --list {redirections}"), &path.display().to_string()];
            output(&mut checkout.command("sh", &own)).status.code()
        };
        let wanted = [(">&-", HOST), (">&- 2>&- <&-", HOST), (">/dev/null", Some(0)), ("<&-", Some(0))];
        for (redirections, code) in wanted {
            assert_eq!(status(redirections), code, "{script} {redirections}");
        }
    }
}

#[test]
fn list_after_the_program_is_its_argument() {
    let checkout = Checkout::new();
    let run = output(&mut checkout.command(checkout.path("tree/scripts/run.sh"), &["args", "--list"]));
    reaches_the_tool(&run, "args --list");
}

#[test]
fn scripts_keep_unix_line_endings_under_autocrlf() {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let attributes = ["scripts/run.sh", "scripts/setup.sh", ".ci/run", "kernel/src/lib.rs"];
    let mut command = Command::new("git");
    command
        .arg("-C")
        .arg(&tree)
        .args(["-c", "core.autocrlf=true", "check-attr", "eol", "--"])
        .args(attributes);
    let checked = output(&mut command);
    let stdout = String::from_utf8_lossy(&checked.stdout);
    assert_eq!(
        stdout.lines().filter(|line| line.ends_with(": eol: lf")).count(),
        attributes.len(),
        "{stdout}"
    );
}
