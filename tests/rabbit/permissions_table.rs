//! The tables of config/rabbitmq/README.md: each user is tried with each name, and with each way round the rights. What the
//! tables allow works, and everything else is refused.
//!
//! No daemon runs here. An administrator makes what the users then use or try to use.

use std::collections::BTreeMap;
use std::path::Path;

use crate::daemons_rig::*;
use crate::permissions::{Ask, try_it};

/// The exchanges that are tried. The empty name is the default exchange.
const EXCHANGES: [&str; 6] = ["", "nova", "compute_fanout", "scheduler_fanout", "amq.topic", "other"];
/// The queues that are tried.
const QUEUES: [&str; 9] = [
    "compute.cmp1",
    "computer",
    "scheduler",
    "scheduler.s1",
    "scheduler_fanout_0a",
    "schedulers",
    "reply_0a",
    "reply_of_mine",
    "other",
];
/// The routing keys that are tried.
const KEYS: [&str; 10] = [
    "compute",
    "compute.cmp1",
    "compute.*",
    "compute.#",
    "scheduler",
    "scheduler.s1",
    "scheduler.*",
    "#",
    "*.*",
    "reply_0a",
];
const USERS: [&str; 3] = ["agent", "scheduler", "operator"];

/// The page that has the tables.
fn page() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/rabbitmq/README.md");
    std::fs::read_to_string(page).expect("the page is there")
}

/// The rows of the table whose head begins like this, each as its cells.
fn table(page: &str, head: &str) -> Vec<Vec<String>> {
    let lines = page.lines().skip_while(|line| !line.starts_with(head)).skip(2);
    let rows = lines.take_while(|line| line.starts_with('|'));
    let cells = |row: &str| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
    let rows: Vec<Vec<String>> = rows.map(cells).collect();
    assert!(!rows.is_empty(), "the page has no table {head}");
    rows
}

/// What is written as code in a text.
fn code(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether one of these patterns of the page stands for a name.
fn any_is(patterns: &[String], name: &str) -> bool {
    let hexadecimal = |text: &str| text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
    let no_wildcard = |text: &str| !text.contains(['*', '#']);
    patterns.iter().any(|pattern| {
        let rest = |end: &str| name.strip_prefix(pattern.strip_suffix(end)?).filter(|rest| !rest.is_empty());
        pattern == name
            || rest("*").is_some()
            || rest("ID").is_some_and(hexadecimal)
            || ["HOST", "NAME"].iter().any(|end| rest(end).is_some_and(no_wildcard))
    })
}

/// The rights of one user.
struct Rights {
    configure: Vec<String>,
    write: Vec<String>,
    read: Vec<String>,
    write_keys: Vec<String>,
    read_keys: Vec<String>,
}

impl Rights {
    fn all() -> BTreeMap<String, Self> {
        let rights = |row: Vec<String>| {
            let [user, configure, write, read, write_keys, read_keys] =
                <[Vec<String>; 6]>::try_from(row.iter().map(|cell| code(cell)).collect::<Vec<_>>())
                    .expect("six columns");
            (user[0].clone(), Self { configure, write, read, write_keys, read_keys })
        };
        table(&page(), "| user | configure").into_iter().map(rights).collect()
    }

    fn may_write(&self, exchange: &str) -> bool {
        any_is(&self.write, if exchange.is_empty() { "amq.default" } else { exchange })
    }

    fn may_publish(&self, exchange: &str, key: &str) -> bool {
        self.may_write(exchange) && (exchange != EXCHANGE || any_is(&self.write_keys, key))
    }

    fn may_bind(&self, to: &str, from: &str, key: &str) -> bool {
        self.may_write(to) && any_is(&self.read, from) && (from != EXCHANGE || any_is(&self.read_keys, key))
    }
}

/// A virtual host with everything that the users may use, and the users.
struct World {
    house: House,
    administrator: lapin::Connection,
    users: BTreeMap<&'static str, lapin::Connection>,
    wrong: Vec<String>,
    tried: usize,
}

impl World {
    async fn make(test: &str) -> Option<Self> {
        let house = House::shared(test).await?;
        house.allow_the_shipped_users().await;
        let administrator = connection(&house.url).await;
        let mut users = BTreeMap::new();
        for user in USERS {
            users.insert(user, connection(&house.url_of(user)).await);
        }
        let world = Self { house, administrator, users, wrong: Vec::new(), tried: 0 };
        for exchange in EXCHANGES {
            world.make_exchange(exchange).await;
        }
        for queue in QUEUES {
            world.prepare(Ask::DeclareDurableQueue(queue)).await;
        }
        Some(world)
    }

    async fn prepare(&self, ask: Ask<'_>) {
        try_it(&self.administrator, &ask).await.expect("the administrator may do everything");
    }

    /// The broker makes the default exchange and `amq.*` itself.
    async fn make_exchange(&self, exchange: &str) {
        if !exchange.is_empty() && !exchange.starts_with("amq.") {
            self.prepare(Ask::DeclareExchange(exchange)).await;
        }
    }

    /// Notes whether the broker does for a user what it should do.
    async fn try_as(&mut self, user: &str, ask: Ask<'_>, allowed: bool) {
        self.tried += 1;
        let answer = try_it(&self.users[user], &ask).await;
        let refusals = ["ACCESS_REFUSED", "RESOURCE_LOCKED", "PRECONDITION_FAILED"];
        let as_it_should = match &answer {
            Ok(()) => allowed,
            Err(error) => !allowed && refusals.iter().any(|refusal| error.contains(refusal)),
        };
        if !as_it_should {
            let should = if allowed { "allowed" } else { "refused" };
            self.wrong.push(format!("{user}: {ask:?} should be {should}: {answer:?}"));
        }
    }

    fn end(self) {
        assert!(
            self.wrong.is_empty(),
            "{} of {} attempts:\n{}",
            self.wrong.len(),
            self.tried,
            self.wrong.join("\n")
        );
        drop(self.house);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_right_of_the_table_works_and_no_other() {
    let Some(mut world) = World::make("table of permissions").await else { return };
    let all = Rights::all();
    assert!(
        all.keys().map(String::as_str).eq(["agent", "operator", "scheduler"]),
        "the table has three users"
    );
    for user in USERS {
        let rights = &all[user];
        for exchange in EXCHANGES {
            for key in KEYS {
                let ask = Ask::Publish { exchange, key, as_user: "", body: "{}" };
                world.try_as(user, ask, rights.may_publish(exchange, key)).await;
                if exchange.is_empty() {
                    // Nobody may bind to or from the default exchange.
                    continue;
                }
                for queue in QUEUES {
                    let allowed = rights.may_bind(queue, exchange, key);
                    world.try_as(user, Ask::Bind { queue, exchange, key }, allowed).await;
                }
                for to in EXCHANGES.into_iter().filter(|to| !to.is_empty()) {
                    let allowed = rights.may_bind(to, exchange, key);
                    world.try_as(user, Ask::BindExchange { to, from: exchange, key }, allowed).await;
                }
            }
        }
        for queue in QUEUES {
            let (configure, read) = (any_is(&rights.configure, queue), any_is(&rights.read, queue));
            for ask in [Ask::Get(queue), Ask::Purge(queue), Ask::Consume(queue)] {
                world.try_as(user, ask, read).await;
            }
            world.try_as(user, Ask::Delete(queue), configure).await;
            world.prepare(Ask::Delete(queue)).await;
            world.try_as(user, Ask::DeclareDurableQueue(queue), configure).await;
            world.prepare(Ask::DeclareDurableQueue(queue)).await;
        }
        for exchange in EXCHANGES {
            // Nobody may change the exchanges that the broker makes.
            let configure = any_is(&rights.configure, exchange);
            world.try_as(user, Ask::DeclareExchange(exchange), configure).await;
            world.try_as(user, Ask::DeleteExchange(exchange), configure).await;
            world.make_exchange(exchange).await;
        }
    }
    world.end();
}

/// The queue that a user may declare.
fn own(user: &str) -> &'static str {
    match user {
        "agent" => "compute.own",
        "scheduler" => "scheduler.own",
        _ => "reply_0d",
    }
}

/// What a user does who tries this. It is either all allowed or all refused.
fn attempt(way: &str, user: &str) -> Vec<Ask<'static>> {
    let own = own(user);
    let other = if user == "agent" { "scheduler" } else { "agent" };
    let take = |queue| vec![Ask::DeclareQueue(queue), Ask::DeclareDurableQueue(queue)];
    let read = |queue| vec![Ask::Consume(queue), Ask::Get(queue), Ask::Purge(queue), Ask::Delete(queue)];
    let publish = |key| Ask::Publish { exchange: "", key, as_user: "", body: "{}" };
    let bind = |queue, exchange, key| Ask::Bind { queue, exchange, key };
    let lead = |to, from, key| Ask::BindExchange { to, from, key };
    match way {
        "put a message into any queue through the default exchange" => {
            ["scheduler", "compute.cmp1", "reply_0b", "other"].map(publish).into()
        }
        "send a message in the name of another user" => ["", "nova", "scheduler_fanout"]
            .map(|exchange| Ask::Publish { exchange, key: "scheduler", as_user: other, body: "{}" })
            .into(),
        "take the name of a connected host, with a queue of any kind" => take("compute.cmp1"),
        "take the name of a host that is not connected, with a durable queue" => {
            vec![Ask::DeclareDurableQueue("compute.cmp2")]
        }
        "read, empty or delete the queue of a connected host" => read("compute.cmp1"),
        "bind or unbind the queue of a connected host" => vec![
            bind("compute.cmp1", "nova", "compute.cmp2"),
            Ask::Unbind { queue: "compute.cmp1", exchange: "nova", key: "compute.cmp1" },
            Ask::Unbind { queue: "compute.cmp1", exchange: "compute_fanout", key: "compute" },
        ],
        "get a copy of the commands for another host by a binding" => {
            vec![bind(own, "nova", "compute.cmp1"), bind(own, "compute_fanout", "")]
        }
        "get a copy of requests by a binding" => {
            vec![bind(own, "nova", "scheduler"), bind(own, "nova", "scheduler.s1")]
        }
        "get a copy of reports by a binding" => vec![bind(own, "scheduler_fanout", "")],
        "lead commands to the schedulers by binding exchanges" => vec![
            lead("scheduler_fanout", "nova", "compute.cmp1"),
            lead("scheduler_fanout", "compute_fanout", ""),
        ],
        "lead requests or reports to hosts by binding exchanges" => vec![
            lead("compute_fanout", "scheduler_fanout", "compute"),
            lead("compute_fanout", "nova", "scheduler"),
        ],
        "take the name of another program's reply queue" => [take("reply_0b"), take("reply_0c")].concat(),
        "read, empty or delete another program's reply queue" => {
            [read("reply_0b"), read("reply_0c")].concat()
        }
        "take a free name of a reply queue with a durable queue" => {
            vec![Ask::DeclareDurableQueue("reply_0e")]
        }
        "declare a durable queue with the name of the requests, or of a scheduler" => {
            ["scheduler", "scheduler.s2"].map(Ask::DeclareDurableQueue).into()
        }
        "have the dead letters of its own queue sent to `nova`" => {
            let dead = ["compute.dead", "scheduler.dead", "reply_de"];
            let queue = dead.into_iter().find(|name| name[..5] == own[..5]).expect("one for each user");
            vec![Ask::DeclareQueueWith(queue, "x-dead-letter-exchange", "nova")]
        }
        "have what its own exchange cannot route sent to `nova`" => {
            vec![Ask::DeclareExchangeWith(own, "alternate-exchange", "nova")]
        }
        _ => panic!("no test knows how to try to {way}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ways_round_the_rights_lead_where_the_table_says() {
    let Some(mut world) = World::make("ways round permissions").await else { return };
    // A host, an operator's program and a scheduler's, each with its queue. They live on other connections than the attackers.
    let mut residents = Vec::new();
    world.prepare(Ask::Delete("compute.cmp1")).await;
    for (user, queue) in [("agent", "compute.cmp1"), ("operator", "reply_0b"), ("scheduler", "reply_0c")] {
        let resident = connection(&world.house.url_of(user)).await;
        let mut asks = vec![Ask::DeclareQueue(queue)];
        if user == "agent" {
            asks.push(Ask::Bind { queue, exchange: "nova", key: "compute.cmp1" });
            asks.push(Ask::Bind { queue, exchange: "compute_fanout", key: "compute" });
        }
        for ask in asks {
            try_it(&resident, &ask).await.expect("its work needs this");
        }
        residents.push(resident);
    }
    let page = page();
    let rows = table(&page, "| attempt |");
    for row in &rows {
        let [way, allowed @ ..] = row.as_slice() else { panic!("an empty row") };
        assert_eq!(allowed.len(), USERS.len(), "{way}");
        for (user, allowed) in USERS.into_iter().zip(allowed) {
            assert!(allowed == "yes" || allowed == "no", "{way}: {allowed}");
            let own = own(user);
            if try_it(&world.administrator, &Ask::DeclareDurableQueue(own)).await.is_err() {
                panic!("{own} cannot be made");
            }
            for ask in attempt(way, user) {
                world.try_as(user, ask, allowed == "yes").await;
            }
        }
    }
    drop(residents);
    world.end();
}
