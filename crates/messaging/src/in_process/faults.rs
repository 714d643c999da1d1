//! What goes wrong with a message on its way, drawn from a seed.

use std::time::Duration;

use rand::{Rng, RngExt};

/// How the broker misbehaves.
#[derive(Debug, Clone, Default)]
pub struct InProcessOptions {
    /// Decides the fate of each message, and the names of fanout queues.
    pub seed: [u8; 32],
    /// How long a message takes at least.
    pub min_delay: Duration,
    /// How long a message takes at most. A value below `min_delay` counts as `min_delay`. Messages of one sender overtake
    /// each other only if it does not wait for one confirm before it sends the next.
    pub max_delay: Duration,
    /// Share of messages that vanish, from 0 to 1. One half of them is confirmed nevertheless.
    pub loss: f64,
    /// Share of messages that arrive twice, from 0 to 1, as if the sender had repeated what was not confirmed.
    pub duplicate: f64,
}

/// What happens to a message on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Arrives,
    ArrivesTwice,
    LostConfirmed,
    LostUnconfirmed,
}

impl InProcessOptions {
    /// A message's fate and delay. Always draws equally often, so that one fault does not shift all later ones.
    pub(super) fn draw(&self, rng: &mut impl Rng) -> (Fate, Duration) {
        let [lost, confirmed, twice, late] = std::array::from_fn(|_| rng.random::<f64>());
        let fate = match () {
            () if lost < self.loss && confirmed < 0.5 => Fate::LostConfirmed,
            () if lost < self.loss => Fate::LostUnconfirmed,
            () if twice < self.duplicate => Fate::ArrivesTwice,
            () => Fate::Arrives,
        };
        (fate, self.min_delay + self.max_delay.saturating_sub(self.min_delay).mul_f64(late))
    }
}
