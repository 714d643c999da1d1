//! Whether a guest runs, in Nova's words.

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

/// Whether a guest runs, as its hypervisor says. The words and the numbers are those of Nova's `power_state`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum PowerState {
    /// Nothing is known yet, because the guest is being built (0).
    #[default]
    NoState,
    /// The guest runs (1).
    Running,
    /// The guest is in memory but does not run (3).
    Paused,
    /// The guest is off (4).
    Shutdown,
    /// The guest has ended by a failure (6).
    Crashed,
    /// The guest's memory is on disk (7).
    Suspended,
}

impl PowerState {
    /// All states.
    pub const ALL: [Self; 6] =
        [Self::NoState, Self::Running, Self::Paused, Self::Shutdown, Self::Crashed, Self::Suspended];

    /// Nova's word for it, which is also the form on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoState => "NOSTATE",
            Self::Running => "RUNNING",
            Self::Paused => "PAUSED",
            Self::Shutdown => "SHUTDOWN",
            Self::Crashed => "CRASHED",
            Self::Suspended => "SUSPENDED",
        }
    }

    /// Nova's number for it. Nova does not use 2 and 5 any more.
    pub const fn number(self) -> u8 {
        match self {
            Self::NoState => 0,
            Self::Running => 1,
            Self::Paused => 3,
            Self::Shutdown => 4,
            Self::Crashed => 6,
            Self::Suspended => 7,
        }
    }
}

impl Display for PowerState {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::PowerState;

    #[test]
    fn the_words_and_numbers_are_novas() {
        let nova = [
            ("NOSTATE", 0),
            ("RUNNING", 1),
            ("PAUSED", 3),
            ("SHUTDOWN", 4),
            ("CRASHED", 6),
            ("SUSPENDED", 7),
        ];
        assert_eq!(PowerState::ALL.map(|state| (state.name(), state.number())), nova);
        for state in PowerState::ALL {
            let text = format!("\"{state}\"");
            assert_eq!(serde_json::to_string(&state).unwrap(), text);
            assert_eq!(serde_json::from_str::<PowerState>(&text).unwrap(), state);
        }
        assert!(
            serde_json::from_str::<PowerState>("\"BUILDING\"").is_err(),
            "Nova has no such state any more"
        );
    }
}
