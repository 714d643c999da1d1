//! The exit codes of the command line: all that there are.

use std::io::Write;

pub use novella_service::exit::{
    CONFLICT, INTERNAL, NOT_FOUND, OK, PARTIAL, REFUSED, TIMEOUT, UNREACHABLE, USAGE,
};
use novella_service::exit::{EXIT_CODES, exit_codes_help};

/// The list as help shows it.
pub fn text() -> String {
    exit_codes_help(&EXIT_CODES.map(|(code, _)| code))
}

/// Writes the list: the command `exit-codes`.
pub fn show(out: &mut (dyn Write + Send)) -> anyhow::Result<u8> {
    write!(out, "{}", text())?;
    Ok(OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_promised() {
        assert_eq!(EXIT_CODES.map(|(code, _)| code), [0, 1, 2, 3, 4, 5, 7, 124, 255]);
        assert!(text().contains("\n  124  The time ran out: no answer within --timeout"), "{}", text());
    }

    /// The first two cells of each row of the table below this heading.
    fn table(document: &str, heading: &str) -> Vec<(u8, String)> {
        let (_, section) = document.split_once(heading).expect("the heading is there");
        let rows = section
            .lines()
            .skip_while(|line| !line.starts_with('|'))
            .take_while(|line| line.starts_with('|'));
        let cells = rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
        cells.filter_map(|cells| Some((cells[0].parse().ok()?, cells[1].to_owned()))).collect()
    }

    #[test]
    fn the_documents_list_the_same_codes_with_the_same_meanings() {
        let listed = table(include_str!("../../../docs/cli.md"), "\n## Exit codes\n");
        assert_eq!(
            listed,
            EXIT_CODES.map(|(code, meaning)| (code, meaning.replace("--timeout", "`--timeout`")))
        );
        let causes = table(include_str!("../../../docs/troubleshooting.md"), "\n## An exit code\n");
        let failures = EXIT_CODES.map(|(code, _)| code).into_iter().filter(|code| *code != OK);
        assert!(causes.iter().map(|(code, _)| *code).eq(failures), "{causes:?}");
    }
}
