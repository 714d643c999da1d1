//! The rabbit transport, and whole daemons over it, against a real RabbitMQ.
//!
//! The broker is given by the environment (`scripts/rabbitmq.sh env`); without it every test says that it was skipped.
//! Tests that stop, kill or starve the broker have it to themselves.

#[path = "../documented/commands.rs"]
#[allow(dead_code, reason = "what is only for the commands without a broker")]
mod commands;
mod connecting;
mod consuming;
mod daemons_agents;
mod daemons_attacks;
mod daemons_faults;
mod daemons_furniture;
mod daemons_names;
mod daemons_poison;
mod daemons_policy;
mod daemons_process;
mod daemons_queues;
mod daemons_rig;
mod daemons_story;
mod documented;
mod faults;
mod limits;
mod permissions;
mod permissions_table;
#[path = "../system/poisons.rs"]
mod poisons;
#[path = "../../crates/compute-agent/tests/agent/process.rs"]
mod process;
mod publishing;
mod support;
mod transport_contract;
