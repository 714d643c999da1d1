//! The Python programs of docs/interop.md are run as they stand there, against daemons and as the shipped broker users.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use novella_virt::FakeConfig;
use tokio::sync::oneshot;

use crate::bed;
use crate::daemons_rig::GRACE;
use crate::support::{eventually, variable};

fn page() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/interop.md");
    std::fs::read_to_string(page).expect("the page is there")
}

/// The programs, in the order of the page.
fn programs() -> Vec<String> {
    let text = page();
    let blocks = text.split("```python\n").skip(1);
    blocks.map(|rest| rest.split("```").next().expect("a block has an end").to_owned()).collect()
}

/// Runs one until it has printed a line, or to its end; yields its first line.
fn first_line(interpreter: &str, program: &str, url: &str) -> Option<String> {
    let mut command = Command::new(interpreter);
    command.args(["-W", "ignore", "-c", program]).env("TRANSPORT_URL", url);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let line = lines.next().transpose().expect("text");
    if line.is_some() {
        // A server goes on for ever. It may have ended by itself, then there is nothing to kill.
        drop(child.kill());
        child.wait().expect("a child can be waited for");
    } else {
        assert!(child.wait().expect("a child can be waited for").success(), "{program}");
    }
    line
}

/// Waits for a program in a thread of its own.
fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> oneshot::Receiver<T> {
    let (sender, done) = oneshot::channel();
    // Nobody waits any longer if the test has failed.
    std::thread::spawn(move || drop(sender.send(work())));
    done
}

/// The broker users of the page, each with the commands that give it rights.
fn users() -> Vec<(String, Vec<Vec<String>>)> {
    let mut users: Vec<(String, Vec<Vec<String>>)> = Vec::new();
    for line in page().lines().filter_map(|line| line.strip_prefix("rabbitmqctl ")) {
        let words: Vec<_> = line.split(' ').map(|word| word.trim_matches('\'').to_owned()).collect();
        match words[0].as_str() {
            "add_user" => users.push((words[1].clone(), Vec::new())),
            _ => users.last_mut().expect("a user is added first").1.push(words),
        }
    }
    assert_eq!(users.len(), 2, "the page has users to make");
    users
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_programs_of_the_page_do_what_it_says() {
    let Some(bed) = bed::shared("examples").await else { return };
    let interpreter = variable("examples", "NOVELLA_TEST_PYTHON").expect("the bed has it too");
    let house = bed.house().await;
    // The scheduler declares the exchanges, in the shape that this broker and oslo.messaging take.
    house.import_of_the_shipped(&["permissions", "topic_permissions"]).await;
    let url = bed.python_at(&house);
    let (user, password, _) = house.broker.parts();
    let own = format!("rabbit://{user}:{password}@");
    let [client, reporter, reader] = <[String; 3]>::try_from(programs()).expect("three programs");
    for program in [&client, &reporter, &reader] {
        let lines =
            program.lines().filter(|line| !line.trim().is_empty() && !line.contains("import")).count();
        assert!(lines <= 10, "{lines} lines:\n{program}");
    }
    for (user, rights) in users() {
        if !house.broker.ctl(&["ctl", "list_users", "--silent"]).lines().any(|line| line.starts_with(&user)) {
            house.broker.ctl(&["ctl", "add_user", &user, &format!("{user}-development")]);
        }
        for right in rights {
            let mut words = vec!["ctl", right[0].as_str(), "-p", &house.vhost];
            words.extend(right[1..].iter().map(String::as_str));
            house.broker.ctl(&words);
        }
    }
    let run = |program: String, user: &str| {
        let url = url.replacen(&own, &format!("rabbit://{user}:{user}-development@"), 1);
        assert_ne!(url, bed.python_at(&house), "it names the shipped user");
        let interpreter = interpreter.clone();
        beside(move || first_line(&interpreter, &program, &url))
    };
    let scheduler = house.scheduler("s1", house.scheduler_config(Duration::from_secs(60)), 0).await;
    assert_eq!(run(reporter, "reporter").await.expect("it ends"), None);
    let api = house.operator().await;
    let known = async || !api.list_services(bed::patient()).await.expect("a list").is_empty();
    eventually("its report is known", known).await;
    assert_eq!(run(client, "asker").await.expect("it ends").as_deref(), Some("volume vol1"));

    // Beside our own scheduler.
    let reading = run(reader, "scheduler");
    let agent = house.agent("cmp1", FakeConfig::default(), "").await;
    let line = reading.await.expect("it runs").expect("a line");
    assert!(line.starts_with("compute cmp1 "), "{line}");
    agent.stop(GRACE).await;
    scheduler.stop(GRACE).await;
}
