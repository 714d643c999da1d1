//! Declaring, writing and reading filters and weighers by the class names that Nova gives them.

/// A name that no filter, or no weigher, has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no {what} {name:?}; choose one of {known}")]
pub struct UnknownName {
    /// What was looked for: `filter` or `weigher`.
    pub(super) what: &'static str,
    /// The name as it was given.
    pub(super) name: String,
    /// All names that there are, separated by commas.
    pub(super) known: String,
}

/// Declares an enum whose variants each have a name of Nova's.
macro_rules! named {
    (
        $(#[$about:meta])* $type:ident, $what:literal {
            $($(#[$doc:meta])* $variant:ident = $name:literal,)*
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $type {
            $($(#[$doc])* $variant,)*
        }

        impl $type {
            /// All variants, in the order of their declaration.
            pub const ALL: [Self; [$($type::$variant),*].len()] = [$($type::$variant),*];

            /// Nova's class name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl FromStr for $type {
            type Err = UnknownName;

            fn from_str(name: &str) -> Result<Self, UnknownName> {
                Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| UnknownName {
                    what: $what,
                    name: name.to_owned(),
                    known: Self::ALL.map(Self::name).join(", "),
                })
            }
        }
    };
}

pub(super) use named;
