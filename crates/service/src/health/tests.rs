//! The reports on paused time, then the server and its probe over real sockets.

use prometheus_client::metrics::gauge::Gauge;
use serde_json::{Value, json};
use tokio::time::{advance, timeout};
use tokio_util::sync::CancellationToken;

use std::net::SocketAddr;

use super::{
    probe::{ProbeError, probe, run_probe},
    *,
};
use crate::{env::Env, failure};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn ready_when_every_condition_holds_and_not_before() {
    let health = Health::new(Env::simulated(1).clock);
    assert!(health.ready().ok);
    let (broker, map) = (health.condition("broker"), health.condition("map"));
    assert_eq!(health.ready().summary(), "broker: starting; map: starting");
    let waiter = tokio::spawn({
        let health = health.clone();
        async move { health.until_ready().await }
    });
    broker.set(true, "connected");
    advance(2 * SECOND).await;
    map.set(false, "3 of 8 hosts");
    assert_eq!(health.ready().summary(), "map: 3 of 8 hosts");
    assert_eq!(health.ready().parts[0].age_s, 2.0);
    assert!(!waiter.is_finished());
    map.set(true, "complete");
    timeout(SECOND, waiter).await.unwrap().unwrap();
    health.condition("broker").set(false, "gone");
    assert_eq!(health.ready().summary(), "broker: gone");
}

#[tokio::test(start_paused = true)]
async fn alive_while_every_loop_beats() {
    let health = Health::new(Env::simulated(1).clock);
    let heart = health.watch_loop("reports", 5 * SECOND);
    advance(5 * SECOND).await;
    assert!(health.live().ok);
    advance(SECOND).await;
    assert_eq!(health.live().summary(), "reports: no beat for 6.0 s, allowed are 5s");
    heart.beat();
    assert!(health.live().ok);
    let died = tokio::spawn(async move {
        heart.beat();
        panic!("in the loop");
    });
    assert!(died.await.is_err());
    assert_eq!(health.live().summary(), "reports: the loop has ended unexpectedly");
}

#[tokio::test]
async fn the_three_pages_over_http() {
    let env = Env::system(None).unwrap();
    let health = Health::new(env.clock.clone());
    let map = health.condition("map");
    env.metrics.register("hosts", "Hosts in the map", Gauge::<i64>::default()).set(8);
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let server = tokio::spawn(serve(listener, health.router(env.metrics.clone()), stop.clone()));

    map.set(false, "waiting for the answer window");
    let get = |path: &'static str| async move { probe(address, path, 5 * SECOND).await.unwrap() };
    let answer = get("/readyz").await;
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((answer.status, &body["ok"]), (503, &json!(false)));
    assert_eq!(body["parts"][0]["reason"], "waiting for the answer window");
    map.set(true, "complete");
    assert_eq!(get("/readyz").await.status, 200);
    assert_eq!(get("/livez").await.status, 200);
    assert_eq!(get("/nothing").await.status, 404);
    assert!(get("/metrics").await.body.contains("\nnovella_hosts 8\n"));

    let mut out = Vec::new();
    // "Every interface" is asked on loopback.
    let wildcard = SocketAddr::from(([0, 0, 0, 0], address.port()));
    assert_eq!(run_probe(wildcard, "/readyz", 5 * SECOND, &mut out).await.unwrap(), failure::OK);
    map.set(false, "lost");
    assert_eq!(run_probe(address, "/readyz", 5 * SECOND, &mut out).await.unwrap(), failure::REFUSED);
    assert!(String::from_utf8(out).unwrap().contains("\"reason\":\"lost\""));

    stop.cancel();
    timeout(5 * SECOND, server).await.unwrap().unwrap();
    let mut out = Vec::new();
    assert_eq!(run_probe(address, "/livez", SECOND, &mut out).await.unwrap(), failure::REFUSED);
    let text = String::from_utf8(out).unwrap();
    assert!(text.starts_with(&format!("cannot ask {address} for its health: ")), "{text}");
}

#[tokio::test]
async fn metrics_are_announced_as_openmetrics() {
    let response = metrics_text(&Metrics::new());
    assert_eq!(response.headers()[header::CONTENT_TYPE], OPENMETRICS);
}

#[tokio::test]
async fn a_listener_that_is_silent_or_speaks_something_else() {
    use tokio::io::AsyncWriteExt;
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let silent = probe(address, "/livez", Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(silent, ProbeError::Timeout { .. }), "{silent:?}");
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"AMQP\0\0\x09\x01").await.unwrap();
            let mut request = [0; 256];
            stream.readable().await.unwrap();
            // Read what was asked, so that closing does not reset the connection before our bytes are seen.
            drop(stream.try_read(&mut request));
        }
    });
    let other = probe(address, "/livez", 5 * SECOND).await.unwrap_err();
    assert!(matches!(other, ProbeError::NotHttp { .. }), "{other:?}");
}
