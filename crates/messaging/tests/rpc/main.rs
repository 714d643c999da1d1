//! Client and server over the in-process broker, with a paused clock: every rule of the protocol that can be seen between
//! two services.

mod calls;
mod faults;
mod malformed;
mod replies;
mod rig;
mod serving;
