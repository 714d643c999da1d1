//! What the operator of a broker has set: limits of connections, small frames, alarms, and the names in its certificate.
//! Each error says whose limit it is and what to do, and daemons come back by themselves when it is lifted.
//!
//! What always holds: a test undoes what it has set, even if it fails.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use novella_messaging::TransportUrl;
use novella_messaging::rabbit::RabbitTransport;
use tokio::time::Instant;

use crate::daemons_process::*;
use crate::daemons_rig::*;
use crate::process::*;
use crate::support::*;

/// Runs this command of rabbitmqctl when the test ends.
struct Undo<'a> {
    broker: &'a Broker,
    arguments: Vec<String>,
}

impl<'a> Undo<'a> {
    fn with(broker: &'a Broker, arguments: &[&str]) -> Self {
        let arguments = ["ctl"].iter().chain(arguments).map(|&argument| argument.to_owned()).collect();
        Self { broker, arguments }
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        let undone = Command::new(&self.broker.ctl).args(&self.arguments).output();
        if !undone.is_ok_and(|output| output.status.success()) {
            eprintln!("not undone: rabbitmqctl {:?}", self.arguments);
        }
    }
}

/// No connection at all. Counts of connections are updated late, so another number would be reached at an unknown time.
const NO_CONNECTIONS: &str = r#"{"max-connections":0}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_of_a_user_is_told_and_waited_for() {
    let Some(broker) = broker("connection limit of a user").await else { return };
    let user = broker.unique("limited");
    let _deleted = Undo::with(&broker, &["delete_user", &user]);
    broker.ctl(&["ctl", "add_user", &user, "pw"]);
    broker.ctl(&["ctl", "set_permissions", "-p", "/", &user, ".*", ".*", ".*"]);
    broker.ctl(&["ctl", "set_user_limits", &user, NO_CONNECTIONS]);
    let url = format!("rabbit://{user}:pw@{}/", broker.parts().2);

    let transport = RabbitTransport::start(options(&url, "limited"));
    let error = fails_with(&transport, "user connection limit (0) is reached").await;
    has(&error, &[&user, &format!("rabbitmqctl set_user_limits {user} '{{\"max-connections\": NUMBER}}'")]);
    assert!(!error.contains("set_permissions"), "{error}");
    let (code, _, err) = novella(&url, "scheduler status");
    assert!(code == 7 && err.contains("user connection limit (0) is reached"), "{code}: {err}");
    assert!(err.contains("when other programs have closed their connections"), "{err}");

    broker.ctl(&["ctl", "clear_user_limits", &user, "all"]);
    connected(&transport).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_of_a_vhost_is_told_and_waited_for() {
    let Some(house) = House::shared("connection limit of a vhost").await else { return };
    let (vhost, ctl) = (&house.vhost, |arguments: &[&str]| house.broker.ctl(arguments));
    ctl(&["ctl", "set_vhost_limits", "-p", vhost, NO_CONNECTIONS]);
    let dir = state_dir(&house, "limited");
    let mut agent = Process::agent(&house.url, "limited", &dir, "fake", &[]);
    agent.wait_for("connection limit (0) is reached");

    let transport = RabbitTransport::start(options(&house.url, "limited"));
    let error = fails_with(&transport, "connection limit (0) is reached").await;
    has(&error, &[&format!("rabbitmqctl set_vhost_limits -p {vhost} '{{\"max-connections\": NUMBER}}'")]);
    assert!(!error.contains("set_permissions"), "{error}");
    let (code, _, err) = novella(&house.url, "scheduler status");
    assert!(code == 7 && err.contains("connection limit (0) is reached"), "{code}: {err}");

    ctl(&["ctl", "clear_vhost_limits", "-p", vhost]);
    connected(&transport).await;
    agent.wait_for("consuming queue=compute.limited");
    agent.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_frames_are_used_and_those_that_are_too_small_are_told() {
    let Some(house) = House::alone("frame_max = 4096").await else { return };
    let frame_max = |bytes: u32| format!("application:set_env(rabbit, frame_max, {bytes}).");
    let _undo = Undo::with(&house.broker, &["eval", &frame_max(131_072)]);
    // The AMQP library takes 8192 bytes at least, as RabbitMQ does from 4.1 on.
    house.broker.ctl(&["ctl", "eval", &frame_max(4096)]);
    let (code, _, err) = novella(&house.url, "scheduler status");
    assert_eq!(code, 7, "{err}");
    has(&err, &["raise `frame_max` of the broker", "at least 8192"]);
    house.broker.ctl(&["ctl", "eval", &frame_max(8192)]);

    let (transport, name, mut consumer) = house.broker.serving("small-frames").await;
    let listed = house.broker.ctl(&["ctl", "list_connections", "client_properties", "frame_max"]);
    let ours: Vec<_> = listed.lines().filter(|line| line.contains("small-frames")).collect();
    assert!(ours.len() == 2 && ours.iter().all(|line| line.ends_with("8192")), "{ours:?}");
    // One byte below and above what a frame holds, and many frames.
    for size in [0, 8183, 8184, 8185, 1 << 20] {
        let body = vec![b'x'; size];
        publish(&transport, server(&name, "s"), body.clone()).await;
        assert!(take(&mut *consumer, 1).await[0].body[..] == body[..], "{size} bytes");
    }
    // The longest names that AMQP allows, in the frames that have names.
    let long = "n".repeat(200);
    let mut named = consuming(&transport, server_queue(&name, &long, true)).await;
    publish(&transport, server(&name, &long), "to a long name").await;
    assert_eq!(&take(&mut *named, 1).await[0].body[..], b"to a long name");

    // Daemons: reports and answers are longer than one frame.
    let agents = house.fleet(30).await;
    let scheduler =
        house.scheduler("s1", house.scheduler_config(Duration::from_secs(30)), agents.len()).await;
    let (code, out, err) = novella(&house.url, "host list -f json");
    assert!(code == 0 && out.len() > 8192, "{code}: {err}");
    let (code, _, err) = novella(&house.url, "place --vcpus 1 --ram 64M --explain");
    assert_eq!(code, 0, "{err}");
    drop((scheduler, agents));
}

/// A command during an alarm ends with the time, and says that there is an alarm, and why.
async fn told_of_the_alarm(test: &str, set: &[&str], undo: &[&str], reason: &str) {
    let Some(house) = House::alone(test).await else { return };
    let (mut scheduler, _) = Process::scheduler(&house.url, "s1", Duration::from_secs(30), &[]);
    scheduler.wait_for(SERVES);
    let lifted = Undo::with(&house.broker, undo);
    house.broker.ctl(&[&["ctl"], set].concat());
    let (code, _, err) = novella(&house.url, "--timeout 3s scheduler status");
    assert_eq!(code, 124, "{err}");
    has(
        &err,
        &["the broker accepts no messages now, because of an alarm", reason, "rabbitmq-diagnostics alarms"],
    );
    let (code, _, err) = novella(&house.url, "--timeout 3s place --vcpus 1 --ram 64M");
    assert_eq!(code, 124, "{err}");
    has(&err, &[reason, "repeating it with --instance"]);
    drop(lifted);
    let answers = async || novella(&house.url, "--timeout 3s scheduler status").0 == 0;
    eventually("the broker takes messages again", answers).await;
    scheduler.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_alarm_is_told_to_who_waits() {
    let (set, undo) =
        (["set_vm_memory_high_watermark", "absolute", "1MB"], ["set_vm_memory_high_watermark", "0.4"]);
    told_of_the_alarm("a command during a memory alarm", &set, &undo, "low on memory").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_alarm_is_told_to_who_waits() {
    let (set, undo) = (["set_disk_free_limit", "100000GB"], ["set_disk_free_limit", "50MB"]);
    told_of_the_alarm("a command during a disk alarm", &set, &undo, "low on disk").await;
}

/// Passes connections on to `to`, from another address. Its threads end with the connections.
fn relay(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.2:0").expect("every address of 127.0.0.0/8 is this machine");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let Ok(far) = TcpStream::connect(to) else { continue };
            for (mut from, mut into) in [(near.try_clone(), far.try_clone()), (Ok(far), Ok(near))]
                .map(|(a, b)| (a.unwrap(), b.unwrap()))
            {
                std::thread::spawn(move || {
                    // An error is the end of the connection.
                    drop(io::copy(&mut from, &mut into));
                    drop(into.shutdown(Shutdown::Both));
                });
            }
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_for_other_names_says_which() {
    let Some(_broker) = broker("tls names").await else { return };
    let Some(url) = variable("tls names", "NOVELLA_TEST_RABBIT_TLS_URL") else { return };
    let Some(certs) = variable("tls names", "NOVELLA_TEST_CERTS") else { return };
    let host = TransportUrl::parse(&url).expect("the broker's URL").hosts.remove(0);
    let relay = relay(([127, 0, 0, 1], host.port).into());
    let url = format!(
        "amqps://{}:{}@{relay}/?ssl_ca_file={certs}/ca.pem&ssl_cert_file={certs}/client.pem&ssl_key_file={certs}/client.key",
        host.user, host.password
    );
    let error = fails_with(&RabbitTransport::start(options(&url, "names")), "certificate").await;
    has(
        &error,
        &["is not for 127.0.0.2, the host in the URL; it is for localhost and 127.0.0.1", "write one of"],
    );
    let began = Instant::now();
    let (code, _, err) = novella(&url, "scheduler status");
    assert_eq!(code, 7, "{err}");
    has(&err, &["it is for localhost and 127.0.0.1", "the ssl_ options"]);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
