//! The declaration of a setting, and the macro [`settings!`](crate::settings) that makes a struct of declarations.
//!
//! What always holds: a setting is written once. The struct's field and its default, `config explain`, the example file
//! and the table in the README all come from that one declaration.

use std::collections::BTreeSet;

use serde::{Serialize, de::DeserializeOwned};

/// Every environment variable that novella reads starts with this.
pub const ENV_PREFIX: &str = "NOVELLA_";

/// One key that an operator may set. A table or a list is one setting: its entries are not settings of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The key with its sections, such as `reports.service_down_time`.
    pub key: String,
    /// The unit or kind of the value, such as `duration`, `MiB` or `URL`.
    pub unit: &'static str,
    /// The doc comment, one line of it in each line. A line with white space alone ends a paragraph.
    pub doc: &'static str,
    /// What the example file shows where the default would be of no help, as TOML.
    pub example: Option<&'static str>,
    /// Whether the value must never be shown. Of a URL only the passwords are hidden.
    pub secret: bool,
}

impl Setting {
    /// The name of the environment variable that sets this key: `NOVELLA_SECTION__KEY`.
    pub fn env_name(&self) -> String {
        format!("{ENV_PREFIX}{}", self.key.replace('.', "__").to_uppercase())
    }

    /// What the setting does, one paragraph a text.
    pub fn paragraphs(&self) -> Vec<String> {
        let lines: Vec<&str> = self.doc.lines().map(str::trim).collect();
        lines
            .split(|line| line.is_empty())
            .map(|lines| lines.join(" "))
            .filter(|text| !text.is_empty())
            .collect()
    }

    /// The first paragraph of what it does, for where there is little room.
    pub fn summary(&self) -> String {
        self.paragraphs().into_iter().next().unwrap_or_default()
    }

    /// The section, which is empty for keys at the top, and the name of the key in it.
    pub fn place(&self) -> (&str, &str) {
        self.key.rsplit_once('.').unwrap_or(("", &self.key))
    }
}

/// A struct that [`settings!`](crate::settings) has made.
pub trait Section: Serialize + DeserializeOwned + Default {
    /// The doc comment of the struct.
    const ABOUT: &'static str;

    /// Appends the settings of this section and of the sections in it, in the order of their declarations. `prefix` is
    /// the section's own key with a dot behind it, or empty at the top.
    fn declare(prefix: &str, settings: &mut Vec<Setting>);
}

/// Declares settings: a struct, its `Default`, and the [`Section`] that describes it.
///
/// Each setting has a doc comment, a type, a default, and a unit. The first paragraph of the doc comment should be one or
/// two sentences, because tables show no more. `example` is a TOML value, for the example file. `secret = true` hides the
/// value. A `Duration` names the module that reads and writes it, [`duration`](crate::config::duration), which is its
/// unit too. Sections come last, as in a TOML file.
///
/// ```
/// use std::time::Duration;
/// use novella_service::config::{Section, duration};
///
/// novella_service::settings! {
///     /// Settings of an example.
///     pub struct Example {
///         /// Where the broker is.
///         pub url: String = "rabbit://localhost/".into(), "URL", secret = true;
///         /// Names of friends.
///         pub friends: Vec<String> = Vec::new(), "list of names", example = r#"["anna", "ben"]"#;
///         section timers: Timers;
///     }
/// }
///
/// novella_service::settings! {
///     /// Timers of an example.
///     pub struct Timers {
///         /// Time between two beats.
///         pub beat: Duration as "duration" = Duration::from_secs(10);
///     }
/// }
///
/// let mut settings = Vec::new();
/// Example::declare("", &mut settings);
/// assert_eq!(settings[2].key, "timers.beat");
/// assert_eq!(Example::default().timers.beat, Duration::from_secs(10));
/// ```
#[macro_export]
macro_rules! settings {
    (
        $(#[doc = $about:literal])+
        $visibility:vis struct $name:ident {
            $(
                $(#[doc = $doc:literal])+
                $field_visibility:vis $field:ident: $type:ty $(as $with:literal)? = $default:expr
                    $(, $unit:literal)? $(, example = $example:literal)? $(, secret = $secret:literal)?;
            )*
            $(section $section:ident: $of:ty;)*
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        $visibility struct $name {
            $(
                $(#[doc = $doc])+
                $(#[serde(with = $with)])?
                $field_visibility $field: $type,
            )*
            $(
                #[doc = concat!("The section `[", stringify!($section), "]`.")]
                pub $section: $of,
            )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* $($section: Default::default(),)* }
            }
        }

        impl $crate::config::Section for $name {
            const ABOUT: &'static str = concat!($($about, "\n"),+);

            fn declare(prefix: &str, settings: &mut Vec<$crate::config::Setting>) {
                $(
                    settings.push($crate::config::Setting {
                        key: format!("{prefix}{}", stringify!($field)),
                        unit: $crate::settings!(@unit $($with)? $($unit)?),
                        doc: concat!($($doc, "\n"),+),
                        example: None$(.or(Some($example)))?,
                        secret: false $(| $secret)?,
                    });
                )*
                $(
                    <$of as $crate::config::Section>::declare(
                        &format!("{prefix}{}.", stringify!($section)),
                        settings,
                    );
                )*
            }
        }
    };
    (@unit $unit:literal) => { $unit };
}

/// The settings with these keys or in these sections, in the order of their declaration; all of them if no key is given.
/// A key that is neither is the error.
pub(super) fn select<'a>(settings: &'a [Setting], keys: &[&str]) -> Result<Vec<&'a Setting>, String> {
    let within = |setting: &Setting, key: &str| {
        setting.key.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    if let Some(unknown) = keys.iter().find(|key| !settings.iter().any(|setting| within(setting, key))) {
        return Err((*unknown).to_owned());
    }
    let chosen = |setting: &&Setting| keys.is_empty() || keys.iter().any(|key| within(setting, key));
    Ok(settings.iter().filter(chosen).collect())
}

/// Every section, at any depth.
pub(super) fn sections(settings: &[Setting]) -> BTreeSet<&str> {
    fn above(key: &str) -> Option<&str> {
        key.rfind('.').map(|end| &key[..end])
    }
    let of = |setting| std::iter::successors(above(setting), |section| above(section));
    settings.iter().flat_map(|setting| of(&setting.key)).collect()
}

/// The known key that was most likely meant, if one is near enough.
pub(super) fn suggest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let last = |key: &str| key.rsplit('.').next().unwrap_or(key).to_owned();
    known
        .map(|key| {
            // The right name in the wrong section is a near miss too.
            let score =
                strsim::jaro_winkler(wrong, key).max(strsim::jaro_winkler(&last(wrong), &last(key)) - 0.02);
            (score, key)
        })
        .filter(|(score, _)| *score > 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, key)| key)
}
