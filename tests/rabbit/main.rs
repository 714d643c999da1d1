//! The rabbit transport against a real RabbitMQ.
//!
//! The broker is given by the environment (`scripts/rabbitmq.sh env`); without it every test says that it was skipped.
//! Tests that stop, kill or starve the broker have it to themselves.

mod connecting;
mod consuming;
mod faults;
mod publishing;
mod support;
