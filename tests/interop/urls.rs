//! Transport URLs mean to us what they mean to oslo.messaging: the same text leads both to the same virtual host.

use novella_messaging::TransportUrl;
use novella_messaging::rabbit::RabbitOptions;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::bed::{self, Bed};
use crate::daemons_rig::make_vhost;

/// A call from Python to our server, both by this URL.
async fn meet(bed: &Bed, url: &str) {
    let mark = if url.contains('?') { '&' } else { '?' };
    let more = if bed.denies {
        "amqp_durable_queues=true&rabbit_transient_quorum_queue=true"
    } else {
        "heartbeat_timeout_threshold=60"
    };
    let theirs = format!("{url}{mark}{more}");
    let ours = if bed.denies { format!("{theirs}&topology=oslo") } else { theirs.clone() };
    let server = bed.serve_as(&ours, "s1", novella_messaging::ServerOptions::new([0; 32])).await;
    let answer = bed.call("echo", json!({"url": url}), json!({"url": theirs, "timeout": 30})).await;
    assert_eq!(answer.unwrap_or_else(|raised| panic!("{url}: {raised:?}")), json!({"url": url}));
    assert_eq!(server.count("dispatched"), 1, "{url}");
    server.rpc.shutdown(bed::soon()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_form_of_a_virtual_host_leads_both_to_the_same() {
    let Some(bed) = bed::shared("virtual hosts").await else { return };
    let (user, password, address) = bed.broker.parts();
    let name = bed.broker.unique("v");
    let vhosts = [name.clone(), format!("/{name}"), format!("{name}/"), format!("a/{name}")];
    for vhost in &vhosts {
        make_vhost(&bed.broker, vhost).await;
    }
    let forms = ["", "/", "//", "/%2F"].map(str::to_owned).into_iter().chain([
        format!("/{name}"),
        format!("//{name}"),
        format!("/{name}/"),
        format!("/a%2F{name}"),
    ]);
    for form in forms {
        meet(&bed, &format!("rabbit://{user}:{password}@{address}{form}")).await;
    }
    for vhost in &vhosts {
        bed.broker.ctl(&["ctl", "delete_vhost", vhost]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_and_dead_hosts_are_read_alike() {
    let Some(bed) = bed::shared("passwords").await else { return };
    let (_, _, address) = bed.broker.parts();
    let user = bed.broker.unique("u");
    bed.broker.ctl(&["ctl", "add_user", &user, "p@:,%+"]);
    bed.broker.ctl(&["ctl", "set_permissions", &user, ".*", ".*", ".*"]);
    let login = format!("{user}:p%40%3A%2C%25+");
    meet(&bed, &format!("rabbit://{login}@{address}/")).await;
    // The first two answer nobody: they are passed over at once, in whatever order each side tries them.
    let began = Instant::now();
    meet(&bed, &format!("rabbit://{login}@127.0.0.1:1,{login}@127.0.0.1:2,{login}@{address}/")).await;
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
    // A slash works with us; oslo.messaging takes what follows it for the port.
    bed.broker.ctl(&["ctl", "change_password", &user, "p/q"]);
    let url = format!("rabbit://{user}:p%2Fq@{address}/");
    bed.transport(&url, "slash").await;
    bed.call("echo", json!({}), json!({"url": url, "timeout": 5})).await.expect_err("not read");
    bed.broker.ctl(&["ctl", "delete_user", &user]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_are_read_alike_and_what_is_wrong_is_refused_by_both() {
    let Some(bed) = bed::shared("URLs").await else { return };
    let theirs = async |url: &str| bed.python.ask("parse", json!({"url": url})).await;
    for url in [
        "rabbit://u:p@h/",
        "rabbit://u:p@[::1]:5673/v",
        "rabbit://u:p@h1,h2:6/v",
        "rabbit://u:p@h1:1,v:q@h2:2,w:r@[fe80::1]:3/v",
        "rabbit://u%40x:a%2Fb%3Ac%2Cd%40+@h",
        "rabbit://u:p:q@h",
        "rabbit://u:p@h?ssl=true",
    ] {
        let read = theirs(url).await.expect(url);
        // What the URL leaves open, its rabbit driver fills in so.
        let filled = |value: &Value, default: Value| if value.is_null() { default } else { value.clone() };
        let list = read["hosts"].as_array().expect("a list").iter();
        let theirs: Vec<Value> = list
            .map(|host| {
                let [port, user, password] = [(1, json!(5672)), (2, json!("guest")), (3, json!("guest"))]
                    .map(|(at, default)| filled(&host[at], default));
                json!([host[0], port, user, password])
            })
            .collect();
        let parsed = TransportUrl::parse(url).expect(url);
        let ours: Vec<Value> =
            parsed.hosts.iter().map(|h| json!([h.host, h.port, h.user, h.password])).collect();
        assert_eq!(ours, theirs, "{url}");
    }
    for url in ["rabbit://u:p@h:/", "rabbit://u:p@h:x/"] {
        theirs(url).await.expect_err(url);
        TransportUrl::parse(url).expect_err(url);
    }
    // An option that nobody has.
    let url = format!("{}?rabit_quorum_queue=true", bed.broker.url);
    bed.call("echo", json!({}), json!({"url": url, "timeout": 5})).await.expect_err("unknown");
    let parsed = TransportUrl::parse(&url).expect("its form is right");
    let error = RabbitOptions::new(parsed, "test", [0; 32]).err().expect("unknown").to_string();
    assert!(error.contains("unknown option rabit_quorum_queue"), "{error}");
}
