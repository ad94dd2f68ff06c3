//! Tests that run the subcommand on a synthetic trace.

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use super::options::TraceOptions;
use super::{run, synthetic};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    options: TraceOptions,
}

/// Runs `xtask trace` with these options on the trace in a directory.
fn trace(folder: &Path, options: &str) -> Result<ExitCode, crate::error::Error> {
    let input = folder.join("x.rtrace");
    let words = options.split_whitespace().map(|word| word.replace('@', &folder.display().to_string()));
    let words = ["trace".to_owned(), input.display().to_string()].into_iter().chain(words);
    run(&Cli::try_parse_from(words).expect("cannot parse").options, |_| None)
}

fn folder(records: u64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("cannot create a directory");
    synthetic::write(&folder.path().join("x.rtrace"), records, 3).expect("cannot write");
    folder
}

fn lines(folder: &Path, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join(name)).expect("cannot read");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn without_options_all_outputs_but_text_are_written_beside_the_trace() {
    let folder = folder(3000);
    trace(folder.path(), "").expect("cannot convert");
    let out = folder.path().join("x.out");
    for name in ["out.pftrace", "ctf/metadata", "ctf/cpu_2", "stats.txt", "stats.json"] {
        assert!(out.join(name).exists(), "{name}");
    }
    assert!(!out.join("out.txt").exists());
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(out.join("stats.json")).expect("cannot read"))
            .expect("invalid JSON");
    assert_eq!(json["events"], 3000);
    assert_eq!(json["cpus"].as_array().map(Vec::len), Some(3));
}

#[test]
fn text_is_merged_by_time_or_ordered_by_cpu() {
    let folder = folder(3000);
    trace(folder.path(), "--text @/merged").expect("cannot convert");
    trace(folder.path(), "--text @/apart --per-cpu").expect("cannot convert");
    let (merged, apart) = (lines(folder.path(), "merged"), lines(folder.path(), "apart"));
    assert_eq!((merged.len(), apart.len()), (3000, 3000));
    // The time has a fixed width, so its text sorts like the number.
    assert!(merged.is_sorted_by_key(|line| line[..19].to_owned()));
    let cpu = |line: &String| line[19..23].to_owned();
    assert!(apart.is_sorted_by_key(cpu) && !merged.is_sorted_by_key(cpu));
}

#[test]
fn filters_select_cpus_and_kinds() {
    let folder = folder(3000);
    trace(folder.path(), "--text @/out --cpu 1 --kind syscall_enter --kind program").expect("cannot convert");
    for line in lines(folder.path(), "out") {
        assert!(line.contains("cpu1 syscall_enter") || line.contains("cpu1 program_"), "{line}");
    }
    let error = trace(folder.path(), "--text --cpu 9").expect_err("it must fail for an unknown CPU");
    assert!(error.to_string().contains("no CPU 9"), "{error}");
}

#[test]
fn truncated_file_is_converted_and_is_an_error() {
    let folder = folder(3000);
    let path = folder.path().join("x.rtrace");
    let file = std::fs::OpenOptions::new().write(true).open(&path).expect("cannot open");
    file.set_len(path.metadata().expect("cannot read the metadata").len() - 100 * 32 - 5)
        .expect("cannot truncate");
    let error = trace(folder.path(), "--text @/out").expect_err("it must be truncated");
    assert!(error.to_string().contains("2899 of 3000"), "{error}");
    assert_eq!(lines(folder.path(), "out").len(), 2899);
}
