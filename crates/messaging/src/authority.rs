//! Who may call what: each method has a class, and each class has a list of the broker users who may call its methods.
//!
//! The broker vouches for the user of a message: RabbitMQ refuses a message whose `user_id` is not the user of the
//! connection. A peer may also send no `user_id`, as all of oslo.messaging does. Such a peer is [`ANONYMOUS`], and a list
//! may name it like a user.
//!
//! What always holds: a class without a list is for everybody. The lists are compiled once, so that a check costs a search
//! among the users and nothing is allocated.
//!
//! Left out: which class a method has (its endpoint says that), and what a message is about. An endpoint that looks at
//! that asks [`Authority::permits`] itself.

use std::collections::BTreeMap;

use crate::error::CallError;

/// What a list calls the peers that send no `user_id`.
pub const ANONYMOUS: &str = "anonymous";

/// What a method does, as far as it matters for who may call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MethodClass {
    /// It says what a host or another service has.
    Report,
    /// It takes room for instances, or gives back room that the same user took.
    Place,
    /// It answers a question and changes nothing.
    Read,
    /// It changes what concerns everybody, or what another user made.
    Administer,
    /// It is for servers of the same kind, which tell each other what they did.
    Peers,
}

impl MethodClass {
    /// All classes.
    pub const ALL: [Self; 5] = [Self::Report, Self::Place, Self::Read, Self::Administer, Self::Peers];

    /// The name of the class, as errors and logs show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Place => "place",
            Self::Read => "read",
            Self::Administer => "administer",
            Self::Peers => "peers",
        }
    }
}

/// A set of classes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Classes(u8);

impl Classes {
    const ALL: Self = Self((1 << MethodClass::ALL.len()) - 1);

    fn with(self, class: MethodClass) -> Self {
        Self(self.0 | 1 << class as u8)
    }

    fn without(self, class: MethodClass) -> Self {
        Self(self.0 & !(1 << class as u8))
    }

    fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn has(self, class: MethodClass) -> bool {
        self.0 & 1 << class as u8 != 0
    }
}

/// Who may call the methods of which class. The default is that everybody may call everything.
#[derive(Debug, Clone)]
pub struct Authority {
    /// Classes that everybody may call.
    open: Classes,
    /// What each user may call, in the order of the names.
    users: Vec<(String, Classes)>,
    /// The same for all users whose name starts with a text.
    prefixes: Vec<(String, Classes)>,
    /// The setting that lists the users of each class, for errors.
    settings: [&'static str; MethodClass::ALL.len()],
}

impl Default for Authority {
    fn default() -> Self {
        Self {
            open: Classes::ALL,
            users: Vec::new(),
            prefixes: Vec::new(),
            settings: [""; MethodClass::ALL.len()],
        }
    }
}

impl Authority {
    /// Names the setting that lists the users of a class, and compiles its list. An empty list leaves the class to
    /// everybody. A name that ends with `*` means all users whose names start like this.
    pub fn list(mut self, class: MethodClass, setting: &'static str, users: &[String]) -> Self {
        self.settings[class as usize] = setting;
        if users.is_empty() {
            return self;
        }
        self.open = self.open.without(class);
        users.iter().fold(self, |all, user| all.allow(class, user))
    }

    /// Lets a user call the methods of a class, whatever the list of the class says.
    pub fn allow(mut self, class: MethodClass, user: &str) -> Self {
        let (known, name) = match user.strip_suffix('*') {
            Some(prefix) => (&mut self.prefixes, prefix),
            None => (&mut self.users, user),
        };
        let mut by_name: BTreeMap<String, Classes> = std::mem::take(known).into_iter().collect();
        let classes = by_name.entry(name.to_owned()).or_default();
        *classes = classes.with(class);
        *known = by_name.into_iter().collect();
        self
    }

    /// Whether everybody may call the methods of this class.
    pub fn is_open(&self, class: MethodClass) -> bool {
        self.open.has(class)
    }

    /// Whether this user may call the methods of this class. `None` is a peer that sends no `user_id`.
    pub fn permits(&self, user: Option<&str>, class: MethodClass) -> bool {
        self.open.has(class) || self.classes_of(user).has(class)
    }

    fn classes_of(&self, user: Option<&str>) -> Classes {
        let name = user.unwrap_or(ANONYMOUS);
        let found = self.users.binary_search_by(|(known, _)| known.as_str().cmp(name));
        let classes = found.map_or(Classes::default(), |at| self.users[at].1);
        // A peer without a user has no name that could start like one.
        let alike =
            self.prefixes.iter().filter(|(prefix, _)| user.is_some_and(|user| user.starts_with(&**prefix)));
        alike.fold(classes, |all, (_, some)| all.and(*some))
    }

    /// The error of a user who is not permitted what `attempted` says, such as `call status`.
    pub fn forbids(&self, user: Option<&str>, class: MethodClass, attempted: String) -> CallError {
        let (user, setting) = (user.unwrap_or(ANONYMOUS).to_owned(), self.settings[class as usize]);
        CallError::Forbidden { user, attempted, class: class.name(), setting }
    }

    /// The settings that list nobody, which leaves their classes to everybody.
    pub fn unset(&self) -> Vec<&'static str> {
        let open = MethodClass::ALL.into_iter().filter(|class| self.is_open(*class));
        let mut settings: Vec<_> = open.map(|class| self.settings[class as usize]).collect();
        settings.dedup();
        settings
    }

    /// Logs which settings leave something to everybody. A daemon does this once, when it starts.
    pub fn warn_of_unset(&self) {
        let settings = self.unset();
        if !settings.is_empty() {
            tracing::warn!(
                settings = settings.join(", "),
                "every broker user may do what these settings are about, because they are not set"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(users: &[&str]) -> Vec<String> {
        users.iter().map(|user| (*user).to_owned()).collect()
    }

    fn permitted(authority: &Authority, user: Option<&str>) -> Vec<&'static str> {
        let permitted = MethodClass::ALL.into_iter().filter(|class| authority.permits(user, *class));
        permitted.map(MethodClass::name).collect()
    }

    #[test]
    fn without_lists_everybody_may_call_everything() {
        let authority = Authority::default();
        for user in [None, Some("agent"), Some("")] {
            assert_eq!(permitted(&authority, user), MethodClass::ALL.map(MethodClass::name));
        }
    }

    #[test]
    fn a_list_is_for_its_users_only_and_a_class_without_one_for_everybody() {
        let authority = Authority::default()
            .list(MethodClass::Report, "a.report", &names(&["agent"]))
            .list(MethodClass::Place, "a.place", &names(&["operator", "nova", "agent"]))
            .list(MethodClass::Administer, "a.administer", &names(&["admin"]))
            .list(MethodClass::Peers, "a.peers", &[]);
        for (user, may) in [
            (Some("agent"), &["report", "place", "read", "peers"][..]),
            (Some("operator"), &["place", "read", "peers"]),
            (Some("nova"), &["place", "read", "peers"]),
            (Some("admin"), &["read", "administer", "peers"]),
            // Names are compared as a whole.
            (Some("agent2"), &["read", "peers"]),
            (Some("age"), &["read", "peers"]),
            (Some(""), &["read", "peers"]),
            (None, &["read", "peers"]),
        ] {
            assert_eq!(permitted(&authority, user), may, "{user:?}");
        }
        assert_eq!(authority.unset(), ["", "a.peers"]);
    }

    #[test]
    fn a_peer_without_a_user_is_listed_as_anonymous() {
        let authority = Authority::default().list(MethodClass::Report, "a.report", &names(&["an*"])).list(
            MethodClass::Place,
            "a.place",
            &names(&["anonymous"]),
        );
        assert!(authority.permits(None, MethodClass::Place));
        assert!(!authority.permits(None, MethodClass::Report), "a pattern is for names of users");
        assert!(!authority.permits(Some("agent"), MethodClass::Place));
    }

    #[test]
    fn a_star_stands_for_the_rest_of_a_name() {
        let authority = Authority::default().list(MethodClass::Report, "a.report", &names(&["agent-*", "x"]));
        for (user, may) in [
            ("agent-cmp1", true),
            ("agent-", true),
            ("agent", false),
            ("my-agent-cmp1", false),
            ("x", true),
            ("xy", false),
        ] {
            assert_eq!(authority.permits(Some(user), MethodClass::Report), may, "{user}");
        }
    }

    #[test]
    fn a_user_may_be_let_in_beside_the_list() {
        let authority = Authority::default()
            .list(MethodClass::Read, "a.read", &names(&["operator"]))
            .allow(MethodClass::Read, "scheduler");
        assert!(authority.permits(Some("scheduler"), MethodClass::Read));
        assert!(!authority.permits(Some("agent"), MethodClass::Read));
        // It does not close a class that is open.
        let open = Authority::default().allow(MethodClass::Read, "scheduler");
        assert!(open.permits(Some("agent"), MethodClass::Read));
    }

    #[test]
    fn thousands_of_users_are_each_found() {
        let users: Vec<_> = (0..10_000).map(|number| format!("agent-{number}")).collect();
        let authority = Authority::default().list(MethodClass::Report, "a.report", &users);
        assert!(users.iter().all(|user| authority.permits(Some(user), MethodClass::Report)));
        assert!(!authority.permits(Some("agent-10000"), MethodClass::Report));
    }

    #[test]
    fn the_error_names_user_class_and_setting() {
        let authority =
            Authority::default().list(MethodClass::Administer, "a.administer", &names(&["admin"]));
        let error = authority.forbids(Some("bob"), MethodClass::Administer, "call reload_policy".into());
        assert_eq!(
            error.to_string(),
            "the broker user bob may not call reload_policy: that is for the users in a.administer (class administer)"
        );
        let told = error.into_remote("reload_policy", "1.4");
        assert_eq!((told.module.as_str(), told.class.as_str()), ("novella", "Forbidden"));
        let kwargs = serde_json::json!({"user": "bob", "class": "administer", "setting": "a.administer"});
        assert_eq!(serde_json::Value::Object(told.kwargs), kwargs);
        let error = authority.forbids(None, MethodClass::Administer, "call reload_policy".into());
        assert!(error.to_string().starts_with("the broker user anonymous may not"), "{error}");
    }
}
