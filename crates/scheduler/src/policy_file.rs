//! Reads the policy file that the configuration names, for the scheduler and for `config check`.
//!
//! What always holds: both read it in the same way, so a file that the check finds right is one that the scheduler takes.
//!
//! Left out: what a policy means, which the crate `host-manager` reads, and when it comes into force (`calls/policy.rs`).

use std::io;
use std::path::Path;

use novella_host_manager::{BadPolicy, PolicyFile};
use novella_objects::PolicyProblem;
use novella_service::config::{CheckedFiles, Problem};

/// The setting that names the file.
const KEY: &str = "policy_file";
/// Largest policy file in bytes. Policies take kilobytes; a larger file was named by mistake.
const MAX_BYTES: u64 = 16 << 20;

/// Reads and checks the file. Blocks.
pub(crate) fn read(file: &Path) -> Result<PolicyFile, BadPolicy> {
    let text = read_text(file).map_err(|error| {
        let fix = "check policy_file in the scheduler's configuration, and that its user may read it";
        unusable(format!("cannot read {}: {error}", file.display()), fix)
    })?;
    PolicyFile::parse(&text)
}

fn read_text(file: &Path) -> io::Result<String> {
    let size = std::fs::metadata(file)?.len();
    if size > MAX_BYTES {
        return Err(io::Error::other(format!(
            "it has {size} bytes, and a policy may have at most {MAX_BYTES}"
        )));
    }
    std::fs::read_to_string(file)
}

/// A policy that is refused for a reason that is not at any of its lines.
pub(crate) fn unusable(what: String, fix: &str) -> BadPolicy {
    let (key, fix) = (String::new(), fix.to_owned());
    BadPolicy { problems: vec![PolicyProblem { line: 0, key, what, did_you_mean: None, fix }] }
}

/// What is wrong in the file, each with its line and key. What the scheduler takes all the same is a warning.
pub(crate) fn check(file: &Path) -> CheckedFiles {
    let (problems, warnings) = match read(file) {
        Ok(policy) => {
            let warning = |finding| format!("{}: {finding}", file.display());
            (Vec::new(), policy.findings().map(warning).collect())
        }
        Err(bad) => (bad.problems.into_iter().map(|problem| located(problem, file)).collect(), Vec::new()),
    };
    CheckedFiles { files: vec![file.display().to_string()], problems, warnings }
}

fn located(problem: PolicyProblem, file: &Path) -> Problem {
    let fix = problem.did_you_mean.map_or(problem.fix, |near| format!("did you mean {near}?"));
    if problem.line == 0 {
        return Problem::new(&[KEY], problem.what, fix);
    }
    let at = vec![format!("file {}:{}", file.display(), problem.line)];
    let what =
        if problem.key.is_empty() { problem.what } else { format!("{}: {}", problem.key, problem.what) };
    let keys = if problem.key.is_empty() { vec![KEY.to_owned()] } else { vec![problem.key] };
    Problem { keys, at, what, fix }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_is_wrong_is_told_with_file_line_and_key() {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let file = dir.path().join("policy.toml");
        let checked = |text: &str| {
            std::fs::write(&file, text).expect("it can be written");
            check(&file)
        };
        let wrong = checked("[filter_scheduler]\nhost_subset_sise = 3\n[flavours.small]\nvcpus = 1\n");
        let said: Vec<_> = wrong.problems.iter().map(ToString::to_string).collect();
        let (first, second) =
            (format!("file {}:2: ", file.display()), format!("file {}:3: ", file.display()));
        assert!(said[0].starts_with(&(first + "filter_scheduler.host_subset_sise: there is no")), "{said:?}");
        assert!(said[0].ends_with("did you mean filter_scheduler.host_subset_size?"), "{said:?}");
        assert!(said[1].starts_with(&(second + "flavours: ")) && said[1].ends_with("did you mean flavors?"));
        assert_eq!(wrong.problems[0].keys, ["filter_scheduler.host_subset_sise"]);

        let doubtful = checked("[filter_scheduler]\nenabled_filters = []\n");
        assert!(doubtful.problems.is_empty() && doubtful.warnings[0].contains("policy.toml: line 2: "));

        std::fs::remove_file(&file).expect("it is there");
        let missing = check(&file).problems.remove(0);
        assert_eq!((&*missing.keys, missing.at.len()), (&[KEY.to_owned()][..], 0), "it is about the setting");
        assert!(missing.what.starts_with("cannot read ") && missing.what.contains("policy.toml: "));
    }
}
