//! What the benchmarks on a broker have in common: where it is, a bare connection to it, and medians.

use lapin::{Connection, ConnectionProperties};
use novella_messaging::TransportUrl;

/// Runs a benchmark on the broker that the environment names. Without one it says that it is skipped.
pub fn run(name: &str, benchmark: impl AsyncFnOnce(String)) {
    // `cargo test --benches` only wants to know that it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let Ok(url) = std::env::var("NOVELLA_TEST_RABBIT_URL") else {
        eprintln!("SKIPPED: {name}: NOVELLA_TEST_RABBIT_URL is not set");
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(benchmark(url));
}

/// A connection by lapin alone, with the frame size of the transport: buffers, too, are the same.
pub async fn connect(url: &str) -> Connection {
    let url = TransportUrl::parse(url).expect("a transport URL");
    let host = &url.hosts[0];
    let uri =
        format!("amqp://{}:{}@{}:{}/%2f?frame_max=131072", host.user, host.password, host.host, host.port);
    Connection::connect(&uri, ConnectionProperties::default()).await.expect("connected")
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
