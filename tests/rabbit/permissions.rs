//! The shipped broker users: each can do its work, and the agent's, which is on every host, not much more.

use std::path::Path;
use std::time::Duration;

use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, ExchangeKind};
use novella_messaging::rabbit::RabbitTransport;
use novella_messaging::{CallOptions, RpcClient};
use novella_rpcapi::{ComputeApi, Names, SchedulerApi};
use novella_service::Env;
use tokio::sync::{Mutex, MutexGuard};

use crate::daemons_process::*;
use crate::daemons_rig::*;
use crate::process::*;
use crate::support::*;

const DROPPED: &str = r#"novella_rpc_messages_total{outcome="rejected_user"}"#;
const OBEYED: &str = r#"novella_rpc_messages_total{outcome="dispatched"}"#;

/// The definitions are for the virtual host `/`, of which there is one.
static ROOT: Mutex<()> = Mutex::const_new(());

/// A scheduler and an agent, each as the user that is meant for it.
struct Shipped {
    broker: Broker,
    env: Env,
    scheduler: Process,
    agent: Process,
    /// Where the scheduler serves HTTP.
    scheduler_http: std::net::SocketAddr,
    /// Where the agent serves HTTP.
    agent_http: std::net::SocketAddr,
    _dir: tempfile::TempDir,
    _root: MutexGuard<'static, ()>,
}

impl Shipped {
    async fn start(test: &str) -> Option<Self> {
        let broker = broker(test).await?;
        let _root = ROOT.lock().await;
        let definitions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/rabbitmq/definitions.json");
        import(&broker, &definitions).await;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (mut scheduler, scheduler_http) =
            Process::scheduler(&url(&broker, "scheduler"), "s1", Duration::from_secs(5), &SHIPPED_LISTS);
        let agent_http = free_address();
        let mut agent = Process::agent(
            &url(&broker, "agent"),
            "cmp1",
            dir.path(),
            "fake",
            &[
                ("NOVELLA_RPC__ACCEPT_COMMANDS_FROM", "scheduler"),
                ("NOVELLA_HTTP__LISTEN", &agent_http.to_string()),
            ],
        );
        agent.wait_for("consuming queue=compute.cmp1");
        scheduler.wait_for(SERVES);
        let env = Env::system(None).expect("entropy");
        Some(Self { broker, env, scheduler, agent, scheduler_http, agent_http, _dir: dir, _root })
    }

    async fn client(&self, user: &str) -> RpcClient {
        let transport = RabbitTransport::start(options(&url(&self.broker, user), user));
        connected(&transport).await;
        RpcClient::new(transport, self.env.random.fork(user))
    }

    /// Stops both daemons; neither was refused anything.
    fn end(self) {
        for daemon in [self.agent, self.scheduler] {
            let log = daemon.stop();
            assert!(!log.contains("ACCESS_REFUSED") && !log.contains("ERROR"), "{log}");
        }
    }
}

fn url(broker: &Broker, user: &str) -> String {
    format!("rabbit://{user}:{user}-development@{}/%2f", broker.parts().2)
}

/// One thing to ask of the broker.
#[derive(Debug, Clone)]
pub enum Ask<'a> {
    Consume(&'a str),
    Get(&'a str),
    Purge(&'a str),
    Delete(&'a str),
    DeclareQueue(&'a str),
    DeclareDurableQueue(&'a str),
    /// Durable too, with one argument.
    DeclareQueueWith(&'a str, &'a str, &'a str),
    /// An exchange in our shape, if it is one of ours.
    DeclareExchange(&'a str),
    /// With one argument.
    DeclareExchangeWith(&'a str, &'a str, &'a str),
    DeleteExchange(&'a str),
    Bind {
        queue: &'a str,
        exchange: &'a str,
        key: &'a str,
    },
    Unbind {
        queue: &'a str,
        exchange: &'a str,
        key: &'a str,
    },
    /// Leads what comes to the exchange `from` to the exchange `to` as well.
    BindExchange {
        to: &'a str,
        from: &'a str,
        key: &'a str,
    },
    Publish {
        exchange: &'a str,
        key: &'a str,
        as_user: &'a str,
        body: &'a str,
    },
}

impl Ask<'_> {
    pub async fn on(&self, channel: &Channel) -> lapin::Result<()> {
        let none = FieldTable::default;
        match *self {
            Self::Consume(queue) => {
                let consumer =
                    channel.basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), none());
                consumer.await.map(drop)
            }
            Self::Get(queue) => channel.basic_get(queue.into(), BasicGetOptions::default()).await.map(drop),
            Self::Purge(queue) => channel.queue_purge(queue.into(), Default::default()).await.map(drop),
            Self::Delete(queue) => channel.queue_delete(queue.into(), Default::default()).await.map(drop),
            Self::DeclareQueue(queue) => {
                let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
                channel.queue_declare(queue.into(), exclusive, none()).await.map(drop)
            }
            Self::DeclareDurableQueue(queue) => durable_queue(channel, queue, none()).await,
            Self::DeclareQueueWith(queue, name, value) => {
                durable_queue(channel, queue, argument(name, value)).await
            }
            Self::DeclareExchange(exchange) => declare_exchange(channel, exchange, none()).await,
            Self::DeclareExchangeWith(exchange, name, value) => {
                declare_exchange(channel, exchange, argument(name, value)).await
            }
            Self::DeleteExchange(exchange) => {
                channel.exchange_delete(exchange.into(), Default::default()).await
            }
            Self::Bind { queue, exchange, key } => {
                let options = QueueBindOptions::default();
                channel.queue_bind(queue.into(), exchange.into(), key.into(), options, none()).await
            }
            Self::Unbind { queue, exchange, key } => {
                channel.queue_unbind(queue.into(), exchange.into(), key.into(), none()).await
            }
            Self::BindExchange { to, from, key } => {
                let options = ExchangeBindOptions::default();
                channel.exchange_bind(to.into(), from.into(), key.into(), options, none()).await
            }
            Self::Publish { exchange, key, as_user, body } => {
                channel.confirm_select(ConfirmSelectOptions::default()).await?;
                let properties = BasicProperties::default()
                    .with_content_type("application/json".into())
                    .with_content_encoding("utf-8".into());
                let properties =
                    if as_user.is_empty() { properties } else { properties.with_user_id(as_user.into()) };
                let options = BasicPublishOptions::default();
                let confirm = channel
                    .basic_publish(exchange.into(), key.into(), options, body.as_bytes(), properties)
                    .await?;
                confirm.await.map(drop)
            }
        }
    }
}

fn argument(name: &str, value: &str) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert(name.into(), AMQPValue::LongString(value.into()));
    arguments
}

async fn durable_queue(channel: &Channel, queue: &str, arguments: FieldTable) -> lapin::Result<()> {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), options, arguments).await.map(drop)
}

async fn declare_exchange(channel: &Channel, exchange: &str, arguments: FieldTable) -> lapin::Result<()> {
    let topic = exchange == EXCHANGE;
    let kind = if topic { ExchangeKind::Topic } else { ExchangeKind::Fanout };
    let options = ExchangeDeclareOptions { auto_delete: !topic, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(exchange.into(), kind, options, arguments).await
}

/// Asks on a channel of its own, which a refusal closes.
pub async fn try_it(connection: &lapin::Connection, ask: &Ask<'_>) -> Result<(), String> {
    let channel = connection.create_channel().await.expect("a channel");
    let done = ask.on(&channel).await.map_err(|error| error.to_string());
    if done.is_ok() {
        channel.close(200, "done".into()).await.expect("an open channel closes");
    }
    done
}

async fn refused(connection: &lapin::Connection, ask: Ask<'_>, with: &str) {
    let answer = try_it(connection, &ask).await;
    assert!(answer.as_ref().is_err_and(|error| error.contains(with)), "{ask:?}: {answer:?}, not {with}");
}

async fn allowed(connection: &lapin::Connection, ask: Ask<'_>) {
    let answer = try_it(connection, &ask).await;
    assert_eq!(answer, Ok(()), "{ask:?}");
}

fn publish<'a>(exchange: &'a str, key: &'a str) -> Ask<'a> {
    Ask::Publish { exchange, key, as_user: "", body: "{}" }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_user_can_do_its_work() {
    let Some(shipped) = Shipped::start("shipped users").await else { return };
    let operator = url(&shipped.broker, "operator");
    let up = async || novella(&operator, "host list -f json").1.contains(r#""state": "up""#);
    eventually("the host is up", up).await;
    let (code, out, err) = novella(&operator, "place --vcpus 1 --ram 512M --disk 1G -f json");
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains(r#""host": "cmp1""#), "{out}");

    let (code, out, err) = novella(&operator, "ping cmp1 -f value -c host");
    assert_eq!((code, out.as_str(), err.as_str()), (0, "cmp1\n", ""), "a scheduler asks the agent");
    let (code, _, err) = novella(&operator, "ping cmp9");
    assert!(code == 7 && err.contains("no agent listens as host cmp9"), "{code}: {err}");
    let began = tokio::time::Instant::now();
    let (code, _, err) = novella(&operator, "swarm --hosts 2 --name-prefix denied");
    assert!(
        code == 7 && err.contains("ACCESS_REFUSED") && err.contains("broker user `agent`"),
        "{code}: {err}"
    );
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "the denial is told when it comes: {:?}",
        began.elapsed()
    );

    let scheduler = shipped.client("scheduler").await;
    let compute = ComputeApi::new(scheduler.clone(), &Names::on(EXCHANGE));
    let obeyed = metric(&get(shipped.agent_http, "/metrics"), OBEYED);
    let status =
        compute.ping("cmp1", CallOptions::new(PATIENCE)).await.expect("the scheduler's user is obeyed");
    assert_eq!(status.pid, shipped.agent.pid());
    compute.publish_service_capabilities_of("cmp1", PATIENCE).await.expect("published");
    let more = async || metric(&get(shipped.agent_http, "/metrics"), OBEYED) >= obeyed + 2;
    eventually("both commands are obeyed", more).await;
    assert_eq!(metric(&get(shipped.agent_http, "/metrics"), DROPPED), 0);
    shipped.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_level_of_the_log_shows_a_password() {
    let Some(house) = House::shared("passwords in logs").await else { return };
    house.allow_the_shipped_users().await;
    let trace = [("RUST_LOG", "trace")];
    let down_time = Duration::from_secs(60);
    let (mut scheduler, _) = Process::scheduler(&house.url_of("scheduler"), "s1", down_time, &trace);
    let mut agent =
        Process::agent(&house.url_of("agent"), "cmp1", &state_dir(&house, "cmp1"), "fake", &trace);
    scheduler.wait_for(SERVES);
    agent.wait_for("consuming queue=compute.cmp1");
    let (_, _, of_operator) = novella_with(&house.url_of("operator"), "host list", &trace);
    let logs = [("agent", agent.stop()), ("scheduler", scheduler.stop()), ("operator", of_operator)];
    assert!(logs[..2].iter().all(|(_, log)| log.contains("TuneOk {")), "frames of the library are logged");
    for (user, log) in logs {
        // lapin writes bytes as numbers.
        let password = format!("{user}-development");
        let numbers: Vec<_> = password.bytes().map(|byte| byte.to_string()).collect();
        let hexadecimal: String = password.bytes().map(|byte| format!("{byte:02x}")).collect();
        for shown in [password.clone(), numbers.join(", "), numbers.join(","), hexadecimal] {
            assert!(!log.contains(&shown), "{user}: {shown}");
        }
    }
}

/// A message of RPC without a caller.
fn cast(method: &str, version: &str, args: serde_json::Value) -> String {
    let unique = format!("{method}-{version}");
    let message =
        serde_json::json!({"method": method, "version": version, "args": args, "_unique_id": unique});
    serde_json::json!({"oslo.version": "2.0", "oslo.message": message.to_string()}).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduler_does_for_each_user_what_its_lists_say() {
    let Some(shipped) = Shipped::start("lists of users").await else { return };
    let count = |name: &str| metric(&get(shipped.scheduler_http, "/metrics"), name);
    let hosts = || count(r#"novella_scheduler_hosts{state="up"}"#);
    eventually("the host is up", async || hosts() == 1).await;
    let uuid = "6f1c9d0e-2b7a-4c55-9d0e-0c1f2a3b4c5d";
    let entry = serde_json::json!({
        "uuid": uuid, "host": "cmp1", "vcpus": 1 << 20, "memory_mb": 1, "disk_gb": 1, "spec_hash": 1,
    });
    let reserve =
        serde_json::json!({"decision_id": "s9-1", "scheduler": "s9", "ttl_ms": 60_000, "entries": [entry]});
    let report = serde_json::json!({"service_name": "compute", "host": "evil", "capabilities": {"vcpus": 8}});
    let nothing = serde_json::json!({});

    // The agent's user cannot publish to `nova`, but the default exchange leads it to the queue of requests. It can also leave
    // out who it is.
    let agent = connection(&url(&shipped.broker, "agent")).await;
    for (number, (method, version, args)) in [
        ("list_hosts", "1.1", &nothing),
        ("snapshot", "1.5", &nothing),
        ("release", "1.1", &serde_json::json!({"decision_id": "s1-0-0"})),
        ("reload_policy", "1.4", &nothing),
        ("reserve", "1.1", &reserve),
    ]
    .into_iter()
    .enumerate()
    {
        let body = cast(method, version, args.clone());
        for as_user in ["agent", ""] {
            allowed(&agent, Ask::Publish { exchange: "", key: "scheduler", as_user, body: &body }).await;
        }
        eventually(method, async || count(DROPPED) == 2 * (number as u64 + 1)).await;
    }

    let operator = SchedulerApi::new(shipped.client("operator").await, &Names::on(EXCHANGE));
    let before = count(DROPPED);
    let forger = connection(&url(&shipped.broker, "operator")).await;
    for (number, (method, args)) in
        [("update_service_capabilities", &report), ("reserve", &reserve)].into_iter().enumerate()
    {
        let version = if method == "reserve" { "1.1" } else { "1.0" };
        let body = cast(method, version, args.clone());
        allowed(
            &forger,
            Ask::Publish { exchange: "nova", key: "scheduler", as_user: "operator", body: &body },
        )
        .await;
        eventually(method, async || count(DROPPED) == before + number as u64 + 1).await;
    }
    assert_eq!(hosts(), 1);
    let status = operator.status(CallOptions::new(PATIENCE)).await.expect("it may read");
    assert_eq!(status.reservations, 0);
    let (code, _, err) = novella(&url(&shipped.broker, "operator"), "policy reload");
    assert!(
        code == 7 && err.contains("the broker user operator may not call reload_policy"),
        "{code}: {err}"
    );
    assert!(err.contains("add this one to authority.administer"), "{err}");

    // What each is for.
    let (code, out, err) =
        novella(&url(&shipped.broker, "operator"), "place --vcpus 1 --ram 64M --hold 5m -f json");
    assert_eq!(code, 0, "{err}");
    let decision: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let id = decision["decision_id"].as_str().expect("a text");
    for command in ["host list", "snapshot", "ping cmp1", &format!("release {id}")] {
        let (code, _, err) = novella(&url(&shipped.broker, "operator"), command);
        assert_eq!(code, 0, "{command}: {err}");
    }
    for command in ["policy reload", "host list"] {
        let (code, _, err) = novella(&url(&shipped.broker, "scheduler"), command);
        assert_eq!(code, 0, "{command}: {err}");
    }
    shipped.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agents_user_reads_and_binds_nothing_of_others() {
    let Some(shipped) = Shipped::start("agent's permissions").await else { return };
    let operator = SchedulerApi::new(shipped.client("operator").await, &Names::on(EXCHANGE));
    operator.status(CallOptions::new(PATIENCE)).await.expect("the operator's reply queue is there");
    let listed = shipped.broker.ctl(&["ctl", "list_queues", "name", "--silent"]);
    let of = |prefix: &str| {
        let named = listed.lines().find(|name| name.starts_with(prefix));
        named.unwrap_or_else(|| panic!("no {prefix} in {listed}")).to_owned()
    };
    let (reply, fanout) = (of("reply_"), of("scheduler_fanout_"));
    let agent = connection(&url(&shipped.broker, "agent")).await;

    for queue in ["scheduler", "scheduler.s1", &reply, &fanout] {
        for ask in [Ask::Consume(queue), Ask::Get(queue), Ask::Purge(queue), Ask::Delete(queue)] {
            refused(&agent, ask, "ACCESS_REFUSED").await;
        }
        // What arrives for others would be led past them, or to them.
        refused(&agent, Ask::Bind { queue, exchange: "compute_fanout", key: "" }, "ACCESS_REFUSED").await;
    }
    allowed(&agent, Ask::DeclareQueue("compute.own")).await;
    for key in ["scheduler", "scheduler.s1", "#", "*", "*.*", "compute.*", "compute.#", &reply] {
        let bind = Ask::Bind { queue: "compute.own", exchange: "nova", key };
        refused(&agent, bind, "ACCESS_REFUSED").await;
    }
    let reports_of_others = Ask::Bind { queue: "compute.own", exchange: "scheduler_fanout", key: "" };
    refused(&agent, reports_of_others, "ACCESS_REFUSED").await;
    for name in ["evil", "scheduler", "reply_0", "scheduler_fanout_0"] {
        refused(&agent, Ask::DeclareQueue(name), "ACCESS_REFUSED").await;
    }
    refused(&agent, Ask::DeclareExchange("evil"), "ACCESS_REFUSED").await;
    for (exchange, key) in [("nova", "scheduler"), ("nova", "compute.cmp1"), ("compute_fanout", "")] {
        refused(&agent, publish(exchange, key), "ACCESS_REFUSED").await;
    }
    // Whoever is connected keeps its name.
    refused(&agent, Ask::DeclareQueue("compute.cmp1"), "RESOURCE_LOCKED").await;
    refused(&agent, Ask::Consume("compute.cmp1"), "RESOURCE_LOCKED").await;

    // What its work needs.
    allowed(&agent, Ask::Bind { queue: "compute.own", exchange: "nova", key: "compute.own" }).await;
    allowed(&agent, Ask::Bind { queue: "compute.own", exchange: "compute_fanout", key: "" }).await;
    allowed(&agent, publish("scheduler_fanout", "")).await;
    shipped.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_obeys_the_scheduler_and_not_the_agents_user() {
    let Some(shipped) = Shipped::start("forged commands").await else { return };
    let agent = connection(&url(&shipped.broker, "agent")).await;
    let message = serde_json::json!({
        "method": "publish_service_capabilities", "version": "1.0", "args": {}, "_unique_id": "",
    });
    let command = |number: u32| {
        let mut message = message.clone();
        message["_unique_id"] = format!("forged-{number}").into();
        serde_json::json!({"oslo.version": "2.0", "oslo.message": message.to_string()}).to_string()
    };
    let count = |name: &str| metric(&get(shipped.agent_http, "/metrics"), name);
    let before = count(OBEYED);

    // The default exchange takes it to any queue; that is how answers travel.
    allowed(&agent, publish("", "scheduler")).await;
    for (number, as_user) in [(1, ""), (2, "agent")] {
        let body = command(number);
        allowed(&agent, Ask::Publish { exchange: "", key: "compute.cmp1", as_user, body: &body }).await;
    }
    eventually("both are dropped and counted", async || count(DROPPED) == 2).await;
    let body = command(3);
    let forged = Ask::Publish { exchange: "", key: "compute.cmp1", as_user: "scheduler", body: &body };
    refused(&agent, forged, "PRECONDITION_FAILED").await;

    let scheduler = connection(&url(&shipped.broker, "scheduler")).await;
    let body = command(4);
    let genuine = Ask::Publish { exchange: "nova", key: "compute.cmp1", as_user: "scheduler", body: &body };
    allowed(&scheduler, genuine).await;
    eventually("the scheduler's is obeyed", async || count(OBEYED) == before + 1).await;
    assert_eq!(count(DROPPED), 2);
    shipped.end();
}
