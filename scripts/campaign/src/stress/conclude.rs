//! What a boot amounts to: the judgement on the run, and what was found besides.

use machine::verify::{Judgement, Outcome};

use super::machine::PROGRAM;
use super::problem::Problem;

/// The outcome, and all problems in the order of what they say: a panic explains what comes after it, and what the
/// watch found explains that a program did not exit with code 0.
pub fn conclude(judgement: &Judgement, mut found: Vec<Problem>) -> (Outcome, Vec<Problem>) {
    // A violation's exit code says it a second time.
    let again = |error: &String| {
        found.iter().any(|problem| match problem {
            Problem::Violation { cpu, .. } => *error == format!("CPU {cpu}: {PROGRAM} exited with code 3"),
            _ => false,
        })
    };
    let run: Vec<_> =
        judgement.errors.iter().filter(|error| !again(error)).cloned().map(Problem::Run).collect();
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
    fn a_pass_with_a_problem_is_a_failure() {
        let problem = Problem::NoLast { cpu: 1 };
        assert_eq!(conclude(&judged(Outcome::Pass, &[]), vec![]), (Outcome::Pass, vec![]));
        assert_eq!(
            conclude(&judged(Outcome::Pass, &[]), vec![problem.clone()]),
            (Outcome::Failed, vec![problem])
        );
    }

    #[test]
    fn the_cause_comes_first() {
        let violation = Problem::Violation { cpu: 0, text: "rbx".to_owned() };
        let run = |text: &str| Problem::Run(text.to_owned());
        let errors = ["CPU 0: stress exited with code 3", "CPU 1: stress exited with code 3"];
        let (_, failed) = conclude(&judged(Outcome::Failed, &errors), vec![violation.clone()]);
        assert_eq!(failed, [violation.clone(), run(errors[1])]);
        let (outcome, panicked) = conclude(&judged(Outcome::Panic, &["panicked"]), vec![violation.clone()]);
        assert_eq!((outcome, panicked), (Outcome::Panic, vec![run("panicked"), violation]));
    }
}
