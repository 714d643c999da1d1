//! The RPC contracts between operator, scheduler and compute agents.
