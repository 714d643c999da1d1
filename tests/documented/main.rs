//! Every shell command that the documents and the programs' help show is run as it stands there. Those that need a broker run
//! in the suite `rabbit`, and the others here.

mod commands;
#[path = "../../crates/compute-agent/tests/agent/process.rs"]
#[allow(dead_code, reason = "only what runs a command to its end is needed here")]
mod process;

use std::collections::BTreeSet;

use commands::*;

#[test]
fn every_command_is_run_or_listed_with_a_reason() {
    let blocks = blocks();
    let all =
        || blocks.iter().flat_map(|block| block.commands.iter().map(move |command| (&block.place, command)));
    let unknown: Vec<_> = all().filter(|(_, command)| need(command).is_none()).collect();
    assert!(unknown.is_empty(), "neither run nor in NOT_RUN (tests/documented/commands.rs): {unknown:#?}");
    for (start, reason) in NOT_RUN {
        assert!(all().any(|(_, command)| command.starts_with(start)), "nobody documents {start:?}: {reason}");
    }
    for (endless, _) in ENDLESS {
        assert!(
            all().any(|(_, command)| without_settings(command) == *endless),
            "nobody documents {endless:?}"
        );
    }
    let count = |wanted| all().filter(|(_, command)| need(command) == Some(wanted)).count();
    assert!(count(Need::Broker) > 50 && count(Need::Nothing) > 20, "the commands are found");
}

#[test]
fn no_block_of_a_document_hides_its_commands() {
    let unmarked: Vec<_> = documents().iter().flat_map(|(name, text)| of_document(name, text).1).collect();
    assert!(unmarked.is_empty(), "write a language behind the fence (sh, console, text, ...): {unmarked:?}");
    let indented: Vec<_> = documents()
        .iter()
        .flat_map(|(name, text)| {
            let programs = ["novella ", "scheduler ", "compute-agent ", "rabbitmqctl ", "make ", "docker "];
            let is_command = |line: &&str| {
                line.strip_prefix("    ")
                    .is_some_and(|line| programs.iter().any(|program| line.starts_with(program)))
            };
            text.lines().filter(is_command).map(|line| format!("{name}: {line}")).collect::<Vec<_>>()
        })
        .collect();
    assert!(indented.is_empty(), "put these into a block marked sh: {indented:#?}");
}

#[test]
fn a_command_inside_a_sentence_is_one_that_there_is() {
    let names: BTreeSet<String> = help().into_iter().map(|(name, _)| name).collect();
    let mut seen = 0;
    for (document, text) in documents() {
        let prose: String = text.split("```").step_by(2).collect();
        for span in prose.split('`').skip(1).step_by(2) {
            let words: Vec<&str> = span.split_whitespace().collect();
            let [program, rest @ ..] = &words[..] else { continue };
            if !PROGRAMS.contains(program) {
                continue;
            }
            // Words up to the first option or argument: arguments are in capitals in the documents.
            let plain = |word: &&&str| {
                word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-')
            };
            let name = rest.iter().take_while(plain).fold((*program).to_owned(), |name, word| {
                let longer = format!("{name} {word}");
                // What follows a command without subcommands is an argument.
                let is_leaf =
                    name != *program && !names.iter().any(|known| known.starts_with(&format!("{name} ")));
                if is_leaf { name } else { longer }
            });
            assert!(names.contains(&name), "{document}: there is no command `{name}` (in `{span}`)");
            seen += 1;
        }
    }
    assert!(seen > 50, "the commands are found");
}

#[test]
fn commands_that_need_no_broker_do_what_they_say() {
    let mut failures = Vec::new();
    for block in blocks().iter().filter(|block| block.need() == Need::Nothing) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        write_files(directory.path());
        let world = world(directory.path());
        let before = "novella evaluate --hosts fleet.json --requests requests.jsonl -f json > before.json";
        run(before, directory.path(), &world).expect("an answer of an earlier day");
        for command in block.commands.iter().filter(|command| need(command) == Some(Need::Nothing)) {
            let ran = run(command, directory.path(), &world);
            failures.extend(ran.err().map(|error| format!("{}: {error}", block.place)));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

fn world(directory: &std::path::Path) -> World {
    let own = format!("{}/", directory.display());
    let replaced = [
        ("/etc/novella/", own.as_str()),
        ("/etc/bash_completion.d/", &own),
        // Long enough to see that it works.
        ("--for 20s", "--for 1s"),
        ("--for 10s", "--for 1s"),
    ];
    let replaced = replaced.map(|(from, to)| (from.to_owned(), to.to_owned())).to_vec();
    World { replaced, environment: Vec::new() }
}

#[test]
fn commands_are_found_in_documents() {
    let text = "```sh\nmake demo        # a fleet\n# only a comment\nnovella ping\n```\n\n```console\n$ novella host list\nHOST\n```\n```json\n{}\n```\n```\nnovella hidden\n```\n   ```sh\n   novella zone list\n   ```\n";
    let (blocks, unmarked) = of_document("x.md", text);
    let found: Vec<_> = blocks.iter().map(|block| (block.place.as_str(), block.commands.clone())).collect();
    let commands = |list: &[&str]| list.iter().map(|&command| command.to_owned()).collect::<Vec<_>>();
    assert_eq!(
        found,
        [
            ("x.md:1", commands(&["make demo", "novella ping"])),
            ("x.md:7", commands(&["novella host list"])),
            ("x.md:17", commands(&["novella zone list"])),
        ]
    );
    assert_eq!(unmarked, ["x.md:14"]);
}

#[test]
fn what_a_command_needs_is_known() {
    for (command, needs) in [
        ("novella host list -f json | jq '.[] | .host'", Some(Need::Broker)),
        ("novella snapshot | novella evaluate --hosts - --requests r.json", Some(Need::Broker)),
        ("zcat q.gz | novella evaluate --stdin", Some(Need::Nothing)),
        ("novella capacity --hosts fleet.json --vcpus 1", Some(Need::Nothing)),
        ("novella capacity --vcpus 1", Some(Need::Broker)),
        ("NOVELLA_TRANSPORT_URL=rabbit://x/ scheduler", Some(Need::Broker)),
        ("scheduler --config scheduler.toml config check", Some(Need::Nothing)),
        ("make demo", Some(Need::Skipped)),
        ("novella ping && nomad status", None),
        ("kubectl get pods", None),
    ] {
        assert_eq!(need(command), needs, "{command}");
    }
}
