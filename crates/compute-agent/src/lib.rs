//! The daemon on every host: reports the driver's status and answers for its host.
