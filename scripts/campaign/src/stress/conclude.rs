//! Determines a boot's outcome from the judgement on the run and the problems found by the watch.

use machine::verify::{Judgement, Outcome};

use super::machine::PROGRAM;
use super::problem::Problem;

/// Returns the outcome and all problems, causes first. A panic precedes the watch's problems, which it may have caused;
/// these precede a nonzero exit code, which they may have caused.
pub fn conclude(judgement: &Judgement, mut found: Vec<Problem>) -> (Outcome, Vec<Problem>) {
    // Exit code 3 reports a violation that is already in the list.
    let duplicate = |error: &String| {
        found.iter().any(|problem| match problem {
            Problem::Violation { cpu, .. } => *error == format!("CPU {cpu}: {PROGRAM} exited with code 3"),
            _ => false,
        })
    };
    let run: Vec<_> =
        judgement.errors.iter().filter(|error| !duplicate(error)).cloned().map(Problem::Run).collect();
    match judgement.outcome {
        Outcome::Pass if found.is_empty() => (Outcome::Pass, found),
        Outcome::Pass | Outcome::Failed => {
            found.extend(run);
            (Outcome::Failed, found)
        }
        outcome => (outcome, run.into_iter().chain(found).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(outcome: Outcome, errors: &[&str]) -> Judgement {
        let errors = errors.iter().map(|&error| error.to_owned()).collect();
        Judgement { outcome, errors, warnings: Vec::new() }
    }

    #[test]
    fn pass_with_problem_is_failure() {
        let problem = Problem::NoLastLine { cpu: 1 };
        assert_eq!(conclude(&judged(Outcome::Pass, &[]), vec![]), (Outcome::Pass, vec![]));
        assert_eq!(
            conclude(&judged(Outcome::Pass, &[]), vec![problem.clone()]),
            (Outcome::Failed, vec![problem])
        );
    }

    #[test]
    fn cause_comes_first() {
        let violation = Problem::Violation { cpu: 0, text: "rbx".to_owned() };
        let run = |text: &str| Problem::Run(text.to_owned());
        let errors = ["CPU 0: stress exited with code 3", "CPU 1: stress exited with code 3"];
        let (_, failed) = conclude(&judged(Outcome::Failed, &errors), vec![violation.clone()]);
        assert_eq!(failed, [violation.clone(), run(errors[1])]);
        let (outcome, panicked) = conclude(&judged(Outcome::Panic, &["panicked"]), vec![violation.clone()]);
        assert_eq!((outcome, panicked), (Outcome::Panic, vec![run("panicked"), violation]));
    }
}
