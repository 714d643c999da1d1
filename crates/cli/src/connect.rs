//! Connecting to the bus, and turning failures of calls into exit codes and next steps.
//!
//! What always holds: a broker that refuses is reported as soon as each of its addresses was tried, and not when the timeout
//! ends. No failure shows a password. If an operator can do something about a failure, it says what.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use novella_messaging::rabbit::{RabbitOptions, RabbitTransport};
use novella_messaging::{
    BUSY, CallOptions, ConnectionState, FORBIDDEN, RemoteError, RpcClient, RpcError, Scheme, Transport,
    TransportError, TransportUrl,
};
use novella_rpcapi::{
    HOST_REFUSED, HOST_UNREACHABLE, INSTANCE_NOT_FOUND, Names, OTHER_COMMAND, POLICY_ERROR, QUOTA_EXCEEDED,
    SchedulerApi,
};
use novella_service::Env;
use novella_service::exit::Failure;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::exit_codes::{CONFLICT, INTERNAL, NOT_FOUND, REFUSED, TIMEOUT, UNREACHABLE, USAGE};
use crate::settings::CliSettings;

/// How long closing the connection may take. It is short, because the answer has already arrived.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The next step if the broker cannot be reached.
const START_A_BROKER: &str =
    "start the broker, or name another one with --transport-url or NOVELLA_TRANSPORT_URL";
/// The next step if the broker refuses the login.
const CORRECT_THE_URL: &str =
    "correct the user, the password or the virtual host in --transport-url or NOVELLA_TRANSPORT_URL";
/// The next step if a limit of the broker is reached.
const TRY_LATER: &str = "try again when other programs have closed their connections, or have the operator of the broker raise the limit";
/// The next step if the broker runs and cannot serve this virtual host.
const ASK_THE_OPERATOR: &str = "have the operator of the broker look at its log, then try again";
/// The next step if no TLS connection can be made.
const CORRECT_TLS: &str = "correct the host, the port or the ssl_ options in --transport-url or NOVELLA_TRANSPORT_URL, or the broker's certificate";

/// Words of a refusal, each with the next step for the person at the command line. The first that is found counts. A broker
/// that says one of these is running, so starting it would not help.
const NEXT_BY_WORDS: [(&str, &str); 6] = [
    ("connection limit (", TRY_LATER),
    ("' is down", ASK_THE_OPERATOR),
    ("ACCESS_REFUSED", CORRECT_THE_URL),
    ("NOT_ALLOWED", CORRECT_THE_URL),
    ("certificate", CORRECT_TLS),
    ("TLS", CORRECT_TLS),
];

/// A connection to the bus.
pub struct Bus {
    transport: Arc<dyn Transport>,
    client: RpcClient,
    scheduler: SchedulerApi,
    names: Names,
    options: CallOptions,
}

impl Bus {
    /// Calls over this transport.
    pub fn new(transport: Arc<dyn Transport>, settings: &CliSettings, env: &Env) -> Self {
        let client = RpcClient::new(transport.clone(), env.random.fork("rpc client"));
        let names = settings.names();
        Self {
            scheduler: SchedulerApi::new(client.clone(), &names),
            transport,
            client,
            names,
            options: CallOptions { mandatory: true, ..CallOptions::new(settings.timeout) },
        }
    }

    /// Connects to the broker of the settings.
    pub async fn connect(settings: &CliSettings, env: &Env) -> anyhow::Result<Self> {
        let url = transport_url(settings)?;
        let options = rabbit_options(&url, "novella".to_owned(), env)?;
        let connect_timeout = share(settings.timeout, url.hosts.len());
        let began = Instant::now();
        let transport = RabbitTransport::start(RabbitOptions { connect_timeout, ..options });
        connected(transport.state(), &url, settings.timeout).await?;
        let bus = Self::new(transport, settings, env);
        let left = settings.timeout.saturating_sub(began.elapsed());
        Ok(Self { options: CallOptions { timeout: left, ..bus.options }, ..bus })
    }

    /// Calls to any scheduler.
    pub fn scheduler(&self) -> &SchedulerApi {
        &self.scheduler
    }

    /// Calls to the scheduler of this name, or to any without a name; and the receiver for [`failed`].
    pub fn scheduler_named<'a>(&self, name: Option<&'a str>) -> (SchedulerApi, Peer<'a>) {
        match name {
            Some(name) => (self.scheduler.of(name), Peer::Scheduler(name)),
            None => (self.scheduler.clone(), Peer::AnyScheduler),
        }
    }

    /// The client for other calls.
    pub fn client(&self) -> &RpcClient {
        &self.client
    }

    /// The names of exchanges and topics.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The options of a call: it ends within `--timeout`, and fails at once if nobody listens.
    pub fn options(&self) -> CallOptions {
        self.options.clone()
    }

    /// Closes the connection.
    pub async fn close(self) {
        self.transport.close(Instant::now() + CLOSE_TIMEOUT).await;
    }
}

/// How long one of several hosts may be silent. The next one and the call itself then have as much time. A single host
/// gets the whole time.
fn share(timeout: Duration, hosts: usize) -> Duration {
    let parts = if hosts < 2 { 1 } else { hosts + 1 };
    timeout / u32::try_from(parts).unwrap_or(u32::MAX)
}

/// The URL of the broker in the settings.
pub fn transport_url(settings: &CliSettings) -> anyhow::Result<TransportUrl> {
    let url = TransportUrl::parse(&settings.transport_url).map_err(|error| {
        Failure::new(USAGE, "cannot read the transport URL")
            .because(error)
            .next("write for example rabbit://USER:PASSWORD@HOST:5672/")
    })?;
    if url.scheme == Scheme::Memory {
        return Err(Failure::new(
            USAGE,
            format!("{url} is a bus inside one process and cannot be reached from another"),
        )
        .next("name a broker with --transport-url, or see `novella demo`")
        .into());
    }
    Ok(url)
}

/// Options of one connection that both publishes and consumes, because a command sends too little to need two. Exchanges are
/// declared by the schedulers.
pub fn rabbit_options(url: &TransportUrl, name: String, env: &Env) -> anyhow::Result<RabbitOptions> {
    let options = RabbitOptions::new(url.clone(), name, env.random.fork("rabbit")).map_err(|error| {
        Failure::new(USAGE, "cannot use the transport URL")
            .because(error)
            .next("correct the options after the `?`")
    })?;
    Ok(RabbitOptions { single_connection: true, declare_exchanges: false, ..options })
}

/// Waits for the first connection. Gives up when each address has refused, or after `timeout`.
pub async fn connected(
    mut state: watch::Receiver<ConnectionState>,
    url: &TransportUrl,
    timeout: Duration,
) -> anyhow::Result<()> {
    let settled = |state: &ConnectionState| match state {
        ConnectionState::Connecting { attempt, last_error, .. } => {
            last_error.is_some() && *attempt as usize >= url.hosts.len()
        }
        _ => true,
    };
    let refused = match tokio::time::timeout(timeout, state.wait_for(settled)).await {
        Err(_) => None,
        Ok(state) => match &*state.context("the transport was closed")? {
            ConnectionState::Connecting { last_error, .. } => last_error.clone(),
            _ => return Ok(()),
        },
    };
    let reason =
        refused.unwrap_or_else(|| format!("no answer within {}", humantime::format_duration(timeout)));
    Err(unreachable(url, &reason).into())
}

/// The failure of a connection that the broker did not open for this reason.
fn unreachable(url: &TransportUrl, reason: &str) -> Failure {
    let next = NEXT_BY_WORDS.iter().find(|(words, _)| reason.contains(words));
    let next = next.map_or(START_A_BROKER, |(_, next)| next);
    Failure::new(UNREACHABLE, format!("cannot reach the broker at {url}: {reason}")).next(next)
}

/// The receiver of a request.
#[derive(Clone, Copy, Debug)]
pub enum Peer<'a> {
    /// Any scheduler.
    AnyScheduler,
    /// The scheduler of this name.
    Scheduler(&'a str),
    /// The agent of this host.
    Agent(&'a str),
}

impl Peer<'_> {
    fn nobody_listens(self) -> (String, String) {
        match self {
            Peer::AnyScheduler => (
                "no scheduler listens on this broker".into(),
                "start one with `scheduler --transport-url URL`, and check that both name the same virtual host".into(),
            ),
            Peer::Scheduler(name) => (
                format!("no scheduler named {name} listens on this broker"),
                "it may have stopped; `novella scheduler list` shows the schedulers that answer".into(),
            ),
            Peer::Agent(host) => (
                format!("no agent listens as host {host} on this broker"),
                "`novella host list` shows the hosts; start the agent there with `compute-agent --transport-url URL`".into(),
            ),
        }
    }

    /// The failure of a request that reached nobody.
    pub fn nobody_listens_there(self) -> Failure {
        let (what, next) = self.nobody_listens();
        Failure::new(UNREACHABLE, what).next(next)
    }

    /// The failure of a request that this receiver got but did not answer in this time.
    pub fn did_not_answer(self, waited: Duration) -> Failure {
        let waited = humantime::format_duration(waited);
        Failure::new(TIMEOUT, format!("nobody answered in time: no answer within {waited}"))
            .next(self.next_if_nobody_answers())
    }

    fn next_if_nobody_answers(self) -> &'static str {
        match self {
            Peer::AnyScheduler => {
                "check that a scheduler runs and is ready (its /readyz says what it waits for), or raise --timeout"
            }
            Peer::Scheduler(_) => "check that it still runs, or raise --timeout",
            Peer::Agent(_) => "check the log of the agent on that host, or raise --timeout",
        }
    }
}

/// Turns a failed call into an exit code, a reason and a next step.
pub fn failed(error: RpcError, peer: Peer<'_>) -> Failure {
    match &error {
        RpcError::Send { source: TransportError::Unroutable { .. }, .. } => peer.nobody_listens_there(),
        RpcError::Send { source: TransportError::Unreachable { .. }, .. } => {
            Failure::new(UNREACHABLE, "the connection to the broker is lost")
                .because(error)
                .next(START_A_BROKER)
        }
        RpcError::Send { source: TransportError::Blocked { reason, .. }, .. } => {
            Failure::new(TIMEOUT, format!("the broker accepts no messages now, because of an alarm: {reason}"))
                .because(error)
                .next(
                    "have the operator of the broker make room (`rabbitmq-diagnostics alarms` shows the alarm), then try again",
                )
        }
        RpcError::Send { source: TransportError::Rejected { .. }, .. } => {
            Failure::new(UNREACHABLE, "the broker rejected the request, because its queue is full or has failed")
                .because(error)
                .next(
                    "check that the receiver runs and keeps up (`rabbitmqctl list_queues name messages consumers` shows how \
                     much waits), then try again",
                )
        }
        RpcError::Send { source: TransportError::Unconfirmed { .. }, .. } => {
            Failure::new(TIMEOUT, "the broker did not accept the request in time")
                .because(error)
                .next("look at the alarms of the broker, or raise --timeout")
        }
        RpcError::Send { source: TransportError::Refused { reason, .. }, .. } if is_denial(reason) => {
            denied(reason).next(
                "use the broker user for operators (`operator` in the shipped configuration); \
                 config/rabbitmq/README.md lists what each user may do",
            )
        }
        // Whoever listens has declared the exchange.
        RpcError::Send { source: TransportError::Refused { reason, .. }, .. }
            if reason.contains(NO_EXCHANGE) =>
        {
            peer.nobody_listens_there().because(error)
        }
        RpcError::Send { source: TransportError::Refused { .. }, .. } => {
            Failure::new(UNREACHABLE, "the broker refused the request").because(error).next(
                "compare the properties of queues and exchanges on the broker with the options of the URL",
            )
        }
        RpcError::Timeout { .. } => Failure::new(TIMEOUT, "nobody answered in time")
            .because(error)
            .next(peer.next_if_nobody_answers()),
        RpcError::Remote { source, .. } if source.class == "TypeError" => {
            Failure::new(USAGE, format!("invalid request: {}", source.message))
        }
        RpcError::Remote { source, .. } if source.class == FORBIDDEN => forbidden(source, peer),
        RpcError::Remote { source, .. } if source.class == BUSY => {
            Failure::new(REFUSED, format!("too many questions at once: {}", source.message))
                .next("ask again in a moment")
        }
        RpcError::Remote { source, .. } if source.class == QUOTA_EXCEEDED => {
            let setting = source.kwargs.get("setting").and_then(|text| text.as_str()).unwrap_or("its quota");
            Failure::new(REFUSED, format!("quota exceeded: {}", source.message)).next(format!(
                "release what is not needed, wait until hosts report the instances or their holds run out, or have the \
                 operator of the scheduler raise {setting}; `novella scheduler status` shows the largest holders"
            ))
        }
        RpcError::Remote { source, .. } if source.class == INSTANCE_NOT_FOUND => {
            Failure::new(NOT_FOUND, source.message.trim_end_matches('.'))
                .next("`novella server list --all` shows what is there; a deleted instance is gone from it")
        }
        RpcError::Remote { source, .. } if source.class == OTHER_COMMAND => {
            let named = |name: &str| source.kwargs.get(name).and_then(|text| text.as_str());
            let failure = Failure::new(CONFLICT, named("reason").unwrap_or(&source.message));
            named("next").into_iter().fold(failure, Failure::next)
        }
        RpcError::Remote { source, .. } if [HOST_UNREACHABLE, HOST_REFUSED].contains(&source.class.as_str()) => {
            let code = if source.class == HOST_REFUSED { CONFLICT } else { UNREACHABLE };
            let host = source.kwargs.get("host").and_then(|text| text.as_str()).unwrap_or("HOST");
            let next = match code {
                CONFLICT => "`novella server list` shows the states of instances".to_owned(),
                _ => format!("`novella ping {host}` asks the host; repeat the command when it answers"),
            };
            Failure::new(code, source.message.as_str()).next(next)
        }
        RpcError::Remote { source, .. } if source.class == POLICY_ERROR => {
            let named = |name: &str| source.kwargs.get(name).and_then(|text| text.as_str());
            let (reason, key) = (named("reason").unwrap_or(&source.message), named("key").unwrap_or("it"));
            Failure::new(CONFLICT, format!("the scheduler's policy cannot answer this request: {reason}"))
                .next(format!("correct {key} in the policy file and run `novella policy reload`"))
        }
        RpcError::Remote { .. } | RpcError::Malformed { .. } => Failure::new(INTERNAL, "the request failed")
            .because(error)
            .next("compare the versions that `novella scheduler status` and `novella --version` show"),
        RpcError::Send { .. } => Failure::new(INTERNAL, "the request could not be sent").because(error),
    }
}

/// The failure of a user who is in none of the lists of those who may do this. Lists are written on purpose, so another user
/// is the first advice.
fn forbidden(error: &RemoteError, peer: Peer<'_>) -> Failure {
    let setting = error.kwargs.get("setting").and_then(|text| text.as_str()).unwrap_or("its settings");
    let whose = match peer {
        Peer::AnyScheduler | Peer::Scheduler(_) => "the scheduler",
        Peer::Agent(_) => "the agent",
    };
    Failure::new(UNREACHABLE, error.message.as_str()).next(format!(
        "use a broker user who may do this, or have the operator of {whose} add this one to {setting}"
    ))
}

/// RabbitMQ's words for a missing exchange.
const NO_EXCHANGE: &str = "NOT_FOUND - no exchange";

/// Whether a refusal of the broker is about the rights of the user.
pub fn is_denial(reason: &str) -> bool {
    reason.contains("ACCESS_REFUSED")
}

/// The failure of a user who may not do what a command needs. Permissions are set on purpose, so this does not advise to
/// widen them.
pub fn denied(reason: &str) -> Failure {
    Failure::new(UNREACHABLE, format!("the broker user is not allowed to do this: {reason}"))
}

/// Turns a failed call to any scheduler into an exit code, a reason and a next step.
pub fn scheduler_failed(error: RpcError) -> Failure {
    failed(error, Peer::AnyScheduler)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(source: TransportError) -> RpcError {
        RpcError::Send { method: "status".into(), target: "scheduler".into(), source }
    }

    fn remote(class: &str) -> RpcError {
        let source = Box::new(RemoteError::new("builtins", class, "ram is odd"));
        RpcError::Remote { method: "status".into(), target: "scheduler".into(), source }
    }

    #[test]
    fn each_failure_has_its_exit_code_and_a_next_step_if_there_is_one() {
        let waited = Duration::from_secs(10);
        let cases = [
            (send(TransportError::Unroutable { destination: "scheduler".into() }), UNREACHABLE),
            (
                send(TransportError::Unreachable {
                    broker: "mq".into(),
                    waited,
                    last_error: "refused".into(),
                }),
                UNREACHABLE,
            ),
            (
                send(TransportError::Rejected { destination: "scheduler".into(), times: 5, waited }),
                UNREACHABLE,
            ),
            (send(TransportError::Unconfirmed { destination: "scheduler".into(), waited }), TIMEOUT),
            (
                send(TransportError::Blocked {
                    destination: "scheduler".into(),
                    reason: "low on disk".into(),
                    waited,
                }),
                TIMEOUT,
            ),
            (send(TransportError::Refused { attempted: "x".into(), reason: "y".into() }), UNREACHABLE),
            (
                send(TransportError::Refused { attempted: "x".into(), reason: "ACCESS_REFUSED - no".into() }),
                UNREACHABLE,
            ),
            (RpcError::Timeout { method: "status".into(), target: "scheduler".into(), waited }, TIMEOUT),
            (remote("TypeError"), USAGE),
            (remote(FORBIDDEN), UNREACHABLE),
            (remote(BUSY), REFUSED),
            (remote(QUOTA_EXCEEDED), REFUSED),
            (remote(POLICY_ERROR), CONFLICT),
            (remote(INSTANCE_NOT_FOUND), NOT_FOUND),
            (remote(HOST_UNREACHABLE), UNREACHABLE),
            (remote(HOST_REFUSED), CONFLICT),
            (remote("KeyError"), INTERNAL),
        ];
        for (error, code) in cases {
            let said = error.to_string();
            let failure = failed(error, Peer::AnyScheduler);
            assert_eq!(failure.code, code, "{said}");
            assert_eq!(failure.next.is_some(), code != USAGE, "{said}");
        }
        let nobody =
            failed(send(TransportError::Unroutable { destination: "x".into() }), Peer::Agent("cmp-1"));
        assert!(nobody.what.contains("host cmp-1"), "{nobody}");
    }

    #[test]
    fn an_alarm_of_the_broker_is_told_with_its_reason() {
        let (destination, waited) = ("scheduler".to_owned(), Duration::from_secs(10));
        let blocked = TransportError::Blocked { destination, reason: "low on disk".into(), waited };
        let failure = scheduler_failed(send(blocked));
        let said = novella_service::exit::chain(&failure);
        assert!(
            said.starts_with("the broker accepts no messages now, because of an alarm: low on disk"),
            "{said}"
        );
        assert!(failure.next.is_some_and(|next| next.contains("rabbitmq-diagnostics alarms")));
    }

    #[test]
    fn who_may_not_do_something_reads_who_may_and_which_setting_says_so() {
        let message =
            "the broker user bob may not call status: that is for the users in authority.read (class read)";
        let mut source = RemoteError::new("novella", FORBIDDEN, message);
        source.kwargs.insert("setting".into(), "authority.read".into());
        let error = RpcError::Remote {
            method: "status".into(),
            target: "scheduler".into(),
            source: Box::new(source),
        };
        let failure = scheduler_failed(error);
        assert_eq!((failure.code, failure.what.as_str()), (UNREACHABLE, message));
        assert_eq!(
            failure.next.as_deref(),
            Some(
                "use a broker user who may do this, or have the operator of the scheduler add this one to authority.read"
            )
        );
    }

    #[test]
    fn a_broker_that_refuses_is_not_to_be_started() {
        let url = TransportUrl::parse("rabbit://operator:pw@mq/").unwrap();
        for (reason, next) in [
            ("mq:5672/: Connection refused (os error 111)", START_A_BROKER),
            ("mq:5672/: Host is down (os error 112)", START_A_BROKER),
            (
                "NOT_ALLOWED - Connection refused for user 'operator': user connection limit (5) is reached",
                TRY_LATER,
            ),
            (
                "NOT_ALLOWED - access to vhost '/' refused for user 'operator': connection limit (5) is reached",
                TRY_LATER,
            ),
            (
                "INTERNAL_ERROR - access to vhost '/' refused for user 'operator': vhost '/' is down (...)",
                ASK_THE_OPERATOR,
            ),
            ("NOT_ALLOWED - vhost x not found", CORRECT_THE_URL),
            ("ACCESS_REFUSED - Login was refused", CORRECT_THE_URL),
            ("the broker's certificate is not for mq, the host in the URL; it is for mq1", CORRECT_TLS),
            ("the other side does not speak TLS", CORRECT_TLS),
        ] {
            let failure = unreachable(&url, reason);
            assert_eq!((failure.code, failure.next.as_deref()), (UNREACHABLE, Some(next)), "{reason}");
            assert!(failure.what.contains(reason) && !failure.what.contains("pw"), "{failure}");
        }
    }

    fn settings(url: &str) -> CliSettings {
        CliSettings { transport_url: url.into(), ..CliSettings::default() }
    }

    #[test]
    fn a_url_that_is_none_or_of_this_process_is_refused_without_its_password() {
        for url in ["s3cret", "http://u:s3cret@mq/", "memory://s3cret-bus", "rabbit://u:s3cret@:port/"] {
            let error = transport_url(&settings(url)).unwrap_err();
            let failure = error.downcast_ref::<Failure>().unwrap();
            assert_eq!(failure.code, USAGE, "{url}");
            assert!(
                url.starts_with("memory") || !novella_service::exit::chain(failure).contains("s3cret"),
                "{failure}"
            );
        }
        assert!(transport_url(&settings("amqps://u:p@a,u:p@b/v")).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusing_broker_is_reported_once_every_address_was_tried() {
        let url = TransportUrl::parse("rabbit://u:p@a,u:p@b/").unwrap();
        let trying = |attempt| {
            let (brokers, last_error) = ("a:5672/, b:5672/".into(), Some("refused".into()));
            ConnectionState::Connecting { brokers, attempt, last_error }
        };
        let (sender, state) = watch::channel(trying(1));
        let waiting = tokio::spawn(async move { connected(state, &url, Duration::from_secs(10)).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waiting.is_finished(), "the second address has not been tried yet");
        sender.send_replace(trying(2));
        let error = waiting.await.unwrap().unwrap_err();
        assert_eq!(novella_service::exit::code(error.as_ref()), UNREACHABLE);
        assert!(error.to_string().contains(": refused"), "{error}");

        let url = TransportUrl::parse("rabbit://a/").unwrap();
        let first = ConnectionState::Connecting { brokers: "a:5672/".into(), attempt: 0, last_error: None };
        let (_sender, state) = watch::channel(first);
        let error = connected(state, &url, Duration::from_secs(10)).await.unwrap_err();
        assert!(error.to_string().contains("no answer within 10s"), "{error}");
    }

    #[tokio::test]
    async fn a_silent_broker_leaves_time_for_the_next_one() {
        // The kernel accepts connections here, and nobody ever speaks. Nothing listens on port 1.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("rabbit://{},127.0.0.1:1/", silent.local_addr().unwrap());
        let settings = CliSettings { timeout: Duration::from_secs(3), ..settings(&url) };
        // The order of the hosts is random, so several commands try both orders.
        let tries = (0..6).map(|_| async {
            let env = Env::system(None).unwrap();
            let began = Instant::now();
            let error = Bus::connect(&settings, &env).await.err().expect("no broker answers");
            (began.elapsed(), error.to_string())
        });
        for (took, error) in futures_util::future::join_all(tries).await {
            assert!(took < settings.timeout, "{took:?}: {error}");
            assert!(error.contains("no answer within 1s") || error.contains("refused"), "{error}");
        }
    }
}
