//! Client and server over the in-process broker, under a paused clock: every rule of the protocol that shows between
//! two services.

mod calls;
mod faults;
mod malformed;
mod replies;
mod rig;
mod serving;
