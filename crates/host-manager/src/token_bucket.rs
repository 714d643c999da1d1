//! A bucket of tokens: how often something may be done that takes one token each time.
//!
//! What always holds: it has at most as many tokens as it may save, and time brings new ones at a steady rate.
//!
//! Left out: whose bucket it is, and how many buckets are kept.

use std::time::Duration;

/// How many tokens a bucket gets, and how many it may save.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenRate {
    /// New tokens a second.
    pub per_second: f64,
    /// How many tokens a full bucket has.
    pub most: f64,
}

/// See the module documentation.
#[derive(Debug, Clone, Copy)]
pub struct TokenBucket {
    tokens: f64,
    /// When the tokens were counted.
    at: Duration,
}

impl TokenBucket {
    /// A full bucket.
    pub fn full(rate: TokenRate, now: Duration) -> Self {
        Self { tokens: rate.most, at: now }
    }

    /// How many tokens it has, with what time has brought.
    fn tokens(&self, rate: TokenRate, now: Duration) -> f64 {
        let brought = now.saturating_sub(self.at).as_secs_f64() * rate.per_second;
        (self.tokens + brought).min(rate.most)
    }

    /// Whether it is full, so that it is as good as a new one.
    pub fn is_full(&self, rate: TokenRate, now: Duration) -> bool {
        self.tokens(rate, now) >= rate.most
    }

    /// Takes a token. Returns false if there is none.
    pub fn take(&mut self, rate: TokenRate, now: Duration) -> bool {
        let tokens = self.tokens(rate, now);
        let is_left = tokens >= 1.0;
        *self = Self { tokens: if is_left { tokens - 1.0 } else { tokens }, at: now };
        is_left
    }
}
