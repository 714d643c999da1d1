//! The shell commands of the documents and of the help that need a broker, run as they stand there: as the shipped broker users,
//! beside a real scheduler and real agents.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use novella_messaging::rabbit::RabbitTransport;
use novella_messaging::{RpcClient, Target};
use serde_json::{Value, json};

use crate::commands::{self, Block, Need, World};
use crate::daemons_process::*;
use crate::daemons_rig::*;
use crate::process::*;
use crate::support::*;

/// The ids in the examples, which stand for those of a decision that was just made.
const DECISION: &str = "s1-68a3c0f1-2a";
const INSTANCE: &str = "6f1c9d0e-2b7a-4c55-9d0e-0c1f2a3b4c5d";

/// A scheduler, three hosts and a volume service, each as the broker user that is meant for it.
struct Fleet {
    house: House,
    scheduler: Process,
    agents: Vec<Process>,
}

impl Fleet {
    async fn start() -> Option<Self> {
        let house = House::shared("documented commands").await?;
        house.allow_the_shipped_users().await;
        let policy = house.dir.path().join("policy.toml");
        std::fs::write(&policy, commands::POLICY).expect("it can be written");
        let policy = policy.to_str().expect("paths of tests are UTF-8");
        let down_time = Duration::from_secs(300);
        let (mut scheduler, _) = Process::scheduler(
            &house.url_of("scheduler"),
            "s1",
            down_time,
            &[&SHIPPED_LISTS[..], &[("NOVELLA_POLICY_FILE", policy)]].concat(),
        );
        let agents = ["cmp-1", "cmp-7", "cmp-001"].map(|host| agent(&house, host)).into();
        scheduler.wait_for(SERVES);
        let fleet = Self { house, scheduler, agents };
        fleet.report_a_volume_service().await;
        let operator = fleet.house.url_of("operator");
        let known = async || {
            let services = novella(&operator, "service list -f json").1;
            host_list(&operator).len() == 3 && services.contains("vol1")
        };
        eventually("all report", known).await;
        Some(fleet)
    }

    async fn report_a_volume_service(&self) {
        let transport = RabbitTransport::start(options(&self.house.url_of("agent"), "volume"));
        connected(&transport).await;
        let client = RpcClient::new(transport, self.house.env.random.fork("volume"));
        let capabilities = json!({"free_capacity_gb": 500, "volume_backend_name": "lvm"});
        let report = json!({"service_name": "volume", "host": "vol1", "capabilities": capabilities});
        let target = Target::topic("scheduler").fanout();
        client.cast(&target, "update_service_capabilities", &report, PATIENCE).await.expect("published");
    }

    /// What the placeholders of this command stand for. Each of its ids is one that exists.
    fn world(&self, command: &str, directory: &Path) -> World {
        let mut replaced = Vec::new();
        let mut replace = |from: &str, to: &str| replaced.push((from.to_owned(), to.to_owned()));
        for (documented, user) in [
            ("rabbit://scheduler:PASSWORD@mq1/", "scheduler"),
            ("rabbit://scheduler:PW@mq1/", "scheduler"),
            ("rabbit://agent:PASSWORD@mq1/", "agent"),
            ("rabbit://agent:PW@mq1/", "agent"),
            ("rabbit://operator:PASSWORD@mq1/", "operator"),
            ("rabbit://USER@mq.example/", "operator"),
        ] {
            replace(documented, &self.house.url_of(user));
        }
        let own = format!("{}/", directory.display());
        replace("/etc/novella/", &own);
        replace("/var/lib/novella/", &own);
        // Long enough to see that it works.
        replace("--for 20s", "--for 2s");
        replace("--for 30s", "--for 2s");
        if [DECISION, "DECISION", INSTANCE].iter().any(|id| command.contains(id)) {
            let (decision, held) = self.decision();
            // What is done to a server is done to one that a host has built, and a release is of one that is held.
            let instance = if is_about_servers(command) { self.server("web-9") } else { held };
            replace(DECISION, &decision);
            replace("DECISION", &decision);
            replace(INSTANCE, &instance);
        }
        if is_about_servers(command) {
            command.split_whitespace().filter(|word| word.starts_with("web-")).for_each(|name| {
                self.server(name);
            });
        }
        World { replaced, environment: self.environment(command, directory) }
    }

    /// The uuid of an instance of this name, of which there is one afterwards, built and running.
    fn server(&self, name: &str) -> String {
        let url = self.house.url_of("operator");
        let list = || -> Vec<Value> {
            let (code, out, err) = novella(&url, &format!("server list --name {name} -f json"));
            assert_eq!(code, 0, "{err}");
            serde_json::from_str(&out).expect("JSON")
        };
        let (names, active) = (list(), |row: &Value| row["status"] == "active");
        let known = match &names[..] {
            [one] if active(one) => one["uuid"].clone(),
            others => {
                for row in others {
                    let uuid = row["uuid"].as_str().expect("a text");
                    // It may be gone by now.
                    novella(&url, &format!("server delete {uuid}"));
                }
                let create = format!("server create {name} --vcpus 1 --ram 64M --wait --timeout 1m -f json");
                let (code, out, err) = novella(&url, &create);
                assert_eq!(code, 0, "{err}");
                let decision: Value = serde_json::from_str(&out).expect("JSON");
                decision["selections"][0]["instance_uuid"].clone()
            }
        };
        known.as_str().expect("a text").to_owned()
    }

    fn environment(&self, command: &str, directory: &Path) -> Vec<(String, String)> {
        let program = commands::without_settings(command);
        // Hosts report as agents, and one of them may be of the swarm.
        let reports =
            program.starts_with("compute-agent") || program.starts_with("novella swarm --hosts 100");
        // Only the schedulers' user may reload the policy of all, and make all forget a host.
        let administers =
            ["novella policy reload", "novella host forget"].iter().any(|begin| program.starts_with(begin));
        let user = match administers || program.starts_with("scheduler") {
            true => "scheduler",
            false if reports => "agent",
            false => "operator",
        };
        let path = |name: &str| directory.join(name).display().to_string();
        let mut environment = vec![
            ("NOVELLA_TRANSPORT_URL".to_owned(), self.house.url_of(user)),
            // Another program may have the usual address on this machine.
            ("NOVELLA_HTTP__LISTEN".to_owned(), "127.0.0.1:0".to_owned()),
        ];
        match user {
            // All schedulers of a fleet have one policy.
            "scheduler" => environment.push(("NOVELLA_POLICY_FILE".to_owned(), path("policy.toml"))),
            "agent" if program.starts_with("compute-agent") => {
                environment.push(("NOVELLA_STATE_DIR".to_owned(), path("state")));
            }
            _ => {}
        }
        if program.starts_with("novella ") {
            // These are settings of the daemons.
            environment.truncate(1);
        }
        environment
    }

    /// A decision that was just made, and its instance.
    fn decision(&self) -> (String, String) {
        let (code, out, err) =
            novella(&self.house.url_of("operator"), "place --vcpus 1 --ram 64M --hold 5m -f json");
        assert_eq!(code, 0, "{err}");
        let decision: Value = serde_json::from_str(&out).expect("JSON");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        (text(&decision["decision_id"]), text(&decision["selections"][0]["instance_uuid"]))
    }

    /// Waits until a host that was forgotten has reported again, because other commands ask for it.
    fn until_known_again(&self, host: &str) {
        let url = self.house.url_of("operator");
        let known = || host_list(&url).iter().any(|row| row["host"] == host);
        let tried = (0..100).any(|_| {
            known() || {
                std::thread::sleep(Duration::from_millis(100));
                false
            }
        });
        assert!(tried, "{host} reports again");
    }

    fn run(&self, block: &Block) -> Vec<String> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        commands::write_files(directory.path());
        let run = block.commands.iter().filter(|command| commands::need(command) != Some(Need::Skipped));
        let failed = run.filter_map(|command| {
            let world = self.world(command, directory.path());
            let failed = commands::run(command, directory.path(), &world).err();
            if command.contains("host forget") {
                self.until_known_again("cmp-1");
            }
            failed
        });
        failed.map(|error| format!("{}: {error}", block.place)).collect()
    }
}

/// Whether a command is about instances that exist.
fn is_about_servers(command: &str) -> bool {
    ["show", "delete", "stop", "start", "events"]
        .iter()
        .any(|verb| command.contains(&format!("novella server {verb} ")))
}

/// An agent on a host that has what the examples ask for.
fn agent(house: &House, host: &str) -> Process {
    let file = house.dir.path().join(format!("{host}.toml"));
    let settings = r#"
        resources = { CUSTOM_GPU = { total = 4 } }
        facts = { rack = "r1" }
        [placement]
        traits = ["CUSTOM_NVME"]
        [driver.fake]
        vcpus = 64
        memory_mb = 262144
        disk_gb = 4000
    "#;
    std::fs::write(&file, settings).expect("it can be written");
    let mut command: Command = executable("compute-agent");
    command
        .args(["--host", host, "--driver", "fake", "--config"])
        .arg(file)
        .arg("--state-dir")
        .arg(state_dir(house, host))
        .env("NOVELLA_TRANSPORT_URL", house.url_of("agent"))
        .env("NOVELLA_HTTP__LISTEN", "127.0.0.1:0");
    let mut agent = Process::start(command);
    agent.wait_for("consuming queue=compute.");
    agent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_need_a_broker_do_what_they_say() {
    let Some(fleet) = Fleet::start().await else { return };
    let blocks = commands::blocks();
    let live = blocks.iter().filter(|block| block.need() == Need::Broker);
    let failures: Vec<_> = live.flat_map(|block| fleet.run(block)).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    for daemon in fleet.agents.into_iter().chain([fleet.scheduler]) {
        daemon.stop();
    }
}
