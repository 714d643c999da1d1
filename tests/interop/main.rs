//! oslo.messaging itself, in Python, calls our servers and is called by our clients, on a real RabbitMQ.
//!
//! The broker is given by the environment (`scripts/rabbitmq.sh env`), and so is an interpreter that has
//! oslo.messaging (`NOVELLA_TEST_PYTHON`, from `scripts/conformance.sh python`); without either every test says that
//! it was skipped. One Python process serves all tests. Each test has topics of its own, or a virtual host if it is
//! about daemons. On a broker that denies what RabbitMQ 4.3 denies, both sides use the options with which
//! oslo.messaging works there. docs/interop.md lists every scenario with its tests.

mod bed;
mod bodies;
mod calls_from_python;
mod calls_to_python;
mod casts;
mod daemons;
#[path = "../rabbit/daemons_process.rs"]
#[allow(dead_code, reason = "shared with the suite `rabbit`, which uses the rest")]
mod daemons_process;
#[path = "../rabbit/daemons_rig.rs"]
#[allow(dead_code, reason = "shared with the suite `rabbit`, which uses the rest")]
mod daemons_rig;
mod examples;
mod faults;
mod heartbeats;
mod malformed;
mod nova;
mod nova_compute;
#[path = "../../crates/compute-agent/tests/agent/process.rs"]
#[allow(dead_code, reason = "shared with the suite `rabbit`, which uses the rest")]
mod process;
mod python;
mod raw;
mod reply_queues;
#[path = "../rabbit/support.rs"]
#[allow(dead_code, reason = "shared with the suite `rabbit`, which uses the rest")]
mod support;
mod topologies;
mod urls;
