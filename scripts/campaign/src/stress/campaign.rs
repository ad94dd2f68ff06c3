//! The subcommand `stress`: boots each seed once, `--jobs` at a time, until all are done or one fails.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread::Builder;
use std::time::{Duration, Instant};

use machine::build;
use machine::error::Error;
use machine::tree::shown;
use machine::verify::Outcome;
use output::{eprint, eprintln, print, printable_lines, println};

use super::boot::{BootPlan, Console, FinishedBoot, boot};
use super::evidence::Evidence;
use super::html::{self, SHOWN_MAX};
use super::jitter::Jitter;
use super::machine::{Setup, limit};
use super::options::StressOptions;
use super::progress::Progress;
use super::result::{Boot, Campaign};
use super::seeds::Seed;
use super::table;

/// Interval at which the result is written during the campaign.
const SAVE_INTERVAL: Duration = Duration::from_secs(5);

/// Runs the campaign, prints its result and returns its exit status.
pub fn run(options: &StressOptions) -> Result<ExitCode, Error> {
    let seeds = options.campaign.seeds()?;
    if options.campaign.print_jobs {
        build::check_mutants(&options.load.mutant)?;
        seeds.iter().for_each(|&seed| println!("{}", job(options, seed)));
        return Ok(ExitCode::SUCCESS);
    }
    let setup = Setup::make(&options.load, options.campaign.as_built)?;
    let (campaign, evidence) = Running::new(options, &seeds).run(&setup)?;
    let text = table::text(&campaign);
    if options.campaign.json.as_deref() == Some(Path::new("-")) {
        eprint!("{text}");
    } else {
        print!("{text}");
    }
    for boot in &campaign.boots {
        boot.warnings
            .iter()
            .for_each(|text| eprintln!("warning: seed {}: {}", boot.seed, printable_lines(text)));
    }
    let mut outcome = campaign.outcome();
    if let Some(path) = &options.campaign.json {
        outcome = outcome.and_written(campaign.write(path));
    }
    if let Some(path) = options.campaign.report() {
        let written = html::write(&path, &campaign, &evidence);
        if written.is_ok() {
            eprintln!("report: {}", shown(&path).display());
        }
        outcome = outcome.and_written(written);
    }
    Ok(outcome.exit_code())
}

/// Returns a line of `--print-jobs`: the command for a campaign of one boot with its own result file.
fn job(options: &StressOptions, seed: Seed) -> String {
    let campaign = &options.campaign;
    let json = campaign.json.as_deref().unwrap_or(Path::new("stress-{seed}.json"));
    let json = json.to_string_lossy().replace("{seed}", &seed.to_string());
    let mut words = vec!["--json", &json];
    let logs = campaign.log_dir.as_ref().map(|folder| folder.to_string_lossy());
    if let Some(folder) = &logs {
        words.extend(["--log-dir", folder]);
    }
    let report =
        campaign.report.as_ref().map(|path| path.to_string_lossy().replace("{seed}", &seed.to_string()));
    if let Some(path) = &report {
        words.extend(["--report", path]);
    }
    words.extend(campaign.no_report.then_some("--no-report"));
    words.extend(campaign.keep_traces.then_some("--keep-traces"));
    if campaign.as_built {
        words.push("--as-built");
    }
    // NUL is the only character that cannot be quoted, and a process argument cannot contain it.
    format!("{} {}", options.load.replay(seed), shlex::try_join(words).unwrap_or_default())
}

/// A running campaign.
struct Running<'a> {
    options: &'a StressOptions,
    seeds: &'a [Seed],
    progress: Progress,
    state: Mutex<State>,
}

/// State shared by the workers.
struct State {
    /// Index of the next seed; at least the number of seeds if none is left.
    next: usize,
    /// The completed boots, by seed index.
    boots: Vec<Option<Boot>>,
    /// Evidence from completed boots for the report, by seed index.
    evidence: BTreeMap<usize, Evidence>,
    /// When the result was last written.
    saved: Instant,
    /// The error that stopped the campaign.
    error: Option<Error>,
}

impl<'a> Running<'a> {
    fn new(options: &'a StressOptions, seeds: &'a [Seed]) -> Running<'a> {
        let boots = seeds.iter().map(|_| None).collect();
        let state = State { next: 0, boots, evidence: BTreeMap::new(), saved: Instant::now(), error: None };
        Running {
            options,
            seeds,
            progress: Progress::new(Duration::from_secs(options.campaign.progress)),
            state: Mutex::new(state),
        }
    }

    fn run(self, setup: &Setup) -> Result<(Campaign, BTreeMap<Seed, Evidence>), Error> {
        let campaign = &self.options.campaign;
        let console = match (campaign.verbose, self.seeds.len()) {
            (true, _) => Console::Complete,
            (false, 1) => Console::Filtered,
            (false, _) => Console::Silent,
        };
        let load = &self.options.load;
        let logs = campaign.log_dir();
        let plan = BootPlan {
            load,
            setup,
            limit: limit(load, campaign.jobs),
            logs: &logs,
            keep_traces: campaign.keep_traces,
            report: campaign.report().is_some(),
            console,
        };
        if let [seed] = self.seeds {
            self.progress.print(&format!("seed {seed}; reproduce with: {}", load.replay(*seed)));
        }
        let jitter = load.jitter.then(Jitter::start).transpose()?;
        std::thread::scope(|scope| {
            for _ in 0..usize::from(campaign.jobs).min(self.seeds.len()) {
                if let Err(error) = Builder::new().spawn_scoped(scope, || self.worker(&plan)) {
                    let error = Error::File("cannot start a thread".to_owned(), error);
                    self.lock().error.get_or_insert(error);
                }
            }
        });
        drop(jitter);
        // The lock is not poisoned: if a worker panics, the scope above panics too.
        let state = self.state.into_inner().unwrap_or_else(|poison| poison.into_inner());
        match state.error {
            Some(error) => Err(error),
            None => {
                let seeds = self.seeds;
                let evidence = state.evidence.into_iter().map(|(index, one)| (seeds[index], one));
                Ok((result(seeds, &state.boots), evidence.collect()))
            }
        }
    }

    /// Boots seeds until none is left. QEMU is killed when the thread that started it exits, so the thread waits for
    /// QEMU.
    fn worker(&self, plan: &BootPlan<'_>) {
        while let Some((index, seed)) = self.next_seed() {
            let many = self.seeds.len() > 1;
            let mut display = self.progress.begin(seed, index + 1, self.seeds.len());
            let on_problem = |problem: &str| self.progress.print(&format!("seed {seed}: {problem}"));
            let ended = boot(plan, seed, index == 0, &mut display, &on_problem);
            display.end();
            if let Ok(FinishedBoot { boot, .. }) = &ended
                && (many || !boot.passed())
            {
                self.progress.print(&summary(boot));
            }
            self.store(index, ended);
        }
    }

    /// Takes the next seed and its index.
    fn next_seed(&self) -> Option<(usize, Seed)> {
        let mut state = self.lock();
        let index = state.next;
        let seed = *self.seeds.get(index)?;
        state.next += 1;
        Some((index, seed))
    }

    /// Stores a boot's result. Stops the campaign after an error, and after a failed boot unless `--keep-going` was
    /// given.
    fn store(&self, index: usize, ended: Result<FinishedBoot, Error>) {
        let campaign = &self.options.campaign;
        let mut state = self.lock();
        match ended {
            Ok(FinishedBoot { boot, evidence }) => {
                if let Some(evidence) = evidence.filter(|_| state.evidence.len() < SHOWN_MAX) {
                    state.evidence.insert(index, evidence);
                }
                if !boot.passed() && !campaign.keep_going {
                    state.next = self.seeds.len();
                }
                state.boots[index] = Some(boot);
            }
            Err(error) => {
                state.next = self.seeds.len();
                state.error.get_or_insert(error);
            }
        }
        // If the campaign is killed, the file holds the results so far.
        let file = campaign.json.as_deref().filter(|path| output::is_replaced(path));
        if let Some(path) = file
            && state.saved.elapsed() >= SAVE_INTERVAL
        {
            state.saved = Instant::now();
            if let Err(error) = result(self.seeds, &state.boots).write(path) {
                self.progress.print(&format!("warning: {error}"));
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

/// Returns the campaign's result so far.
fn result(seeds: &[Seed], boots: &[Option<Boot>]) -> Campaign {
    let not_booted = seeds.iter().zip(boots).filter(|(_, boot)| boot.is_none()).map(|(seed, _)| *seed);
    Campaign::of(boots.iter().flatten().cloned().collect(), not_booted.collect())
}

/// Formats the lines that are printed after a boot.
fn summary(boot: &Boot) -> String {
    let Boot { seed, outcome, seconds, replay, log, .. } = boot;
    let mut text = format!(
        "seed {seed}: {}, {}, {seconds:.2} s",
        outcome.name(),
        output::count(boot.syscalls(), "call")
    );
    if *outcome != Outcome::Pass {
        text += &format!("\nseed {seed}: reproduce with: {replay}");
        if let Some(log) = log {
            text += &format!("\nseed {seed}: log: {}", log.display());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::result::tests::boot;
    use super::*;

    fn options(words: &[&str]) -> StressOptions {
        machine::options::parse(words).expect("cannot parse")
    }

    #[test]
    fn job_is_campaign_of_one_boot() {
        let options =
            options(&["--smp", "8", "--calls", "5", "--seeds", "1..3", "--print-jobs", "--as-built"]);
        assert_eq!(
            job(&options, Seed(2)),
            "cargo xtask stress --smp 8 --calls 5 --seed 0x2 --json stress-0x2.json --as-built"
        );
    }

    #[test]
    fn job_writes_to_json_path() {
        let options = options(&["--runs", "2", "--print-jobs", "--json", "out dir/{seed}.json"]);
        let line = job(&options, Seed(2));
        let words = shlex::split(&line).expect("the words must be valid in a shell");
        assert_eq!(words.last().map(String::as_str), Some("out dir/0x2.json"), "{line}");
        assert_eq!(words[..3], ["cargo", "xtask", "stress"]);
        assert!(machine::options::parse::<StressOptions>(&words[3..]).is_ok());
    }

    #[test]
    fn failed_boot_prints_replay_and_log() {
        let text = summary(&boot(5, Outcome::Panic));
        assert!(text.contains("reproduce with: cargo xtask stress --smp 2 --seed 0x5"), "{text}");
        assert!(text.contains("log: target/stress-logs/5.log"), "{text}");
        assert_eq!(summary(&boot(5, Outcome::Pass)), "seed 0x5: pass, 2000 calls, 0.50 s");
    }

    #[test]
    fn seeds_without_boot_are_not_booted() {
        let seeds = [Seed(1), Seed(2), Seed(3)];
        let campaign = result(&seeds, &[Some(boot(1, Outcome::Failed)), None, Some(boot(3, Outcome::Pass))]);
        assert_eq!(campaign.not_booted, [Seed(2)]);
        assert_eq!(campaign.boots.len(), 2);
    }
}
