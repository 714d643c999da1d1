//! Reaching a broker, or saying clearly why not.

use std::time::Duration;

use novella_messaging::rabbit::RabbitTransport;
use novella_messaging::{ConnectionState, Transport, TransportError};
use tokio::time::{Instant, sleep};

use crate::support::*;

#[tokio::test]
async fn a_wrong_password_is_named_and_never_shown() {
    let Some(broker) = broker_alone("wrong password").await else { return };
    let (log, filter) = log();
    let before = log.text().len();
    filter.reload("trace").expect("the subscriber lives");
    let (user, password, address) = broker.parts();
    let wrong = RabbitTransport::start(options(&format!("rabbit://{user}:s3cr3t-guess@{address}/"), "wrong"));
    let error = fails_with(&wrong, "ACCESS_REFUSED").await;
    assert!(error.starts_with(&address), "{error}");
    assert!(error.contains(&format!("check the password of user {user:?}")), "{error}");
    let right = broker.transport("right").await;
    publish(&right, topic("nobody"), "{}").await;
    // Long enough for the line about waiting.
    sleep(Duration::from_millis(1500)).await;
    let late = Instant::now() + Duration::from_millis(200);
    let unsent =
        wrong.publish(novella_messaging::Outgoing { deadline: late, ..message(topic("t"), "{}") }).await;
    let unsent = unsent.expect_err("no connection");
    filter.reload(USUAL).expect("the subscriber lives");
    let logged = log.text()[before..].to_owned();
    let everything = format!("{logged} {unsent} {unsent:?} {wrong:?} {:?}", *wrong.state().borrow());
    assert!(matches!(unsent, TransportError::Unreachable { .. }), "{unsent:?}");
    assert!(unsent.to_string().contains("ACCESS_REFUSED"), "{unsent}");
    let waiting =
        logged.lines().find(|line| line.contains("waiting for RabbitMQ")).expect("a line about waiting");
    assert!(waiting.contains(&address) && waiting.contains("check the password"), "{waiting}");
    for secret in ["s3cr3t-guess", password.as_str()] {
        let shown = everything.lines().find(|line| line.contains(secret));
        assert!(shown.is_none(), "{secret}: {:.600}", shown.unwrap_or_default());
    }
}

#[tokio::test]
async fn a_wrong_vhost_tells_how_to_make_it() {
    let Some(broker) = broker("wrong vhost").await else { return };
    let transport = RabbitTransport::start(options(&format!("{}no-such", broker.url), "vhost"));
    let error = fails_with(&transport, "NOT_ALLOWED").await;
    assert!(error.contains("rabbitmqctl add_vhost no-such"), "{error}");
}

#[tokio::test]
async fn a_user_without_permission_on_the_vhost_is_told() {
    let Some(broker) = broker("no permission").await else { return };
    let user = broker.unique("stranger");
    broker.ctl(&["ctl", "add_user", &user, "pw"]);
    let (_, _, address) = broker.parts();
    let transport = RabbitTransport::start(options(&format!("rabbit://{user}:pw@{address}/"), "stranger"));
    let error = fails_with(&transport, "NOT_ALLOWED").await;
    assert!(error.contains(&format!("set_permissions -p / {user}")), "{error}");
    broker.ctl(&["ctl", "delete_user", &user]);
}

#[tokio::test]
async fn dead_hosts_are_passed_over() {
    let Some(broker) = broker("failover").await else { return };
    let (user, password, address) = broker.parts();
    // Nothing listens on ports 1 and 2; whatever the order, one pass finds the live one.
    let url = format!(
        "rabbit://{user}:{password}@127.0.0.1:1,{user}:{password}@127.0.0.1:2,{user}:{password}@{address}/"
    );
    let transport = RabbitTransport::start(options(&url, "failover"));
    let started = Instant::now();
    connected(&transport).await;
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let dead = RabbitTransport::start(options("rabbit://127.0.0.1:1/", "dead"));
    let error = fails_with(&dead, "refused").await;
    assert!(error.contains("127.0.0.1:1/") && error.contains("is RabbitMQ running"), "{error}");
}

#[tokio::test]
async fn a_silent_host_costs_no_more_than_its_deadline() {
    let Some(broker) = broker("silent host").await else { return };
    // Accepts by the kernel's backlog and never speaks.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("bound").port();
    let (user, password, address) = broker.parts();
    let url = format!("rabbit://{user}:{password}@127.0.0.1:{port}/?connect_timeout=1");
    let transport = RabbitTransport::start(options(&url, "silent"));
    let error = fails_with(&transport, "no answer within 1s").await;
    assert!(error.contains("paused"), "{error}");
    // The socket is gone as well: its other end is read to the end.
    let (mut other, _) = silent.accept().expect("connected");
    other.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    std::io::Read::read_to_end(&mut other, &mut Vec::new()).expect("closed, not leaked");
    drop(transport);
    let both =
        format!("rabbit://{user}:{password}@127.0.0.1:{port},{user}:{password}@{address}/?connect_timeout=1");
    connected(&RabbitTransport::start(options(&both, "both"))).await;
}

#[tokio::test]
async fn tls_needs_the_right_authority_and_the_client_certificate() {
    let Some(broker) = broker("tls").await else { return };
    let Some(url) = variable("tls", "NOVELLA_TEST_RABBIT_TLS_URL") else { return };
    let Some(certs) = variable("tls", "NOVELLA_TEST_CERTS") else { return };
    let identity = format!("ssl_cert_file={certs}/client.pem&ssl_key_file={certs}/client.key");
    let good = format!("{url}?ssl_ca_file={certs}/ca.pem&{identity}");
    let transport = RabbitTransport::start(options(&good, "tls"));
    connected(&transport).await;
    let name = broker.unique("tls");
    let mut consumer = consuming(&transport, server_queue(&name, "s", false)).await;
    publish(&transport, server(&name, "s"), "{}").await;
    assert_eq!(&take(&mut *consumer, 1).await[0].body[..], b"{}");

    for (query, says) in [
        (format!("ssl_ca_file={certs}/other-ca.pem&{identity}"), "set ssl_ca_file"),
        (identity.clone(), "set ssl_ca_file"),
        (format!("ssl_ca_file={certs}/ca.pem"), "client certificate"),
        (format!("ssl_ca_file={certs}/none.pem&{identity}"), "cannot read"),
        (
            format!("ssl_ca_file={certs}/ca.pem&ssl_cert_file={certs}/client.pem"),
            "needs both ssl_cert_file and ssl_key_file",
        ),
        (format!("ssl_ca_file={certs}/client.key&{identity}"), "no certificate"),
    ] {
        let transport = RabbitTransport::start(options(&format!("{url}?{query}"), "tls"));
        fails_with(&transport, says).await;
    }
    let (user, password, address) = broker.parts();
    let plain_port = format!("amqps://{user}:{password}@{address}/?ssl_ca_file={certs}/ca.pem");
    fails_with(&RabbitTransport::start(options(&plain_port, "tls")), "does not speak TLS").await;
    let tls_port = url.replacen("amqps://", "amqp://", 1);
    fails_with(&RabbitTransport::start(options(&tls_port, "tls")), "does this port want TLS").await;
}

#[tokio::test]
async fn the_broker_is_told_who_we_are() {
    let Some(broker) = broker("connection name").await else { return };
    let name = broker.unique("client");
    let transport = broker.transport(&name).await;
    let list = || broker.ctl(&["ctl", "list_connections", "client_properties", "timeout", "frame_max"]);
    eventually("both connections are listed", async || list().matches(&name).count() == 2).await;
    let lines = list();
    for line in lines.lines().filter(|line| line.contains(&name)) {
        has(line, &["novella", "connection.blocked", "consumer_cancel_notify", "15", "131072"]);
    }
    transport.close(Instant::now() + PATIENCE).await;
    assert_eq!(*transport.state().borrow(), ConnectionState::Closed);
    eventually("both connections are closed", async || !list().contains(&name)).await;
    let refused = transport.publish(message(topic("t"), "{}")).await;
    assert!(matches!(refused, Err(TransportError::Closed | TransportError::Refused { .. })), "{refused:?}");
}
