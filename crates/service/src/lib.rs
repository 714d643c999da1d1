//! The daemon frame: Env, configuration, logging, signals, health, graceful stop.
