//! Instances: what a host is asked to build, and in which state it is. The words are Nova's.
//!
//! A claim with a build is an *instance*: the host's driver makes the guest. A claim without one is only room, for people whose
//! own tools start the workload.

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::limits::{MAX_NAME, is_name};
use crate::power_state::PowerState;

/// Largest number of tags of one instance, as in Nova.
const MAX_TAGS: usize = 50;

/// What a host builds for an instance, besides the amounts of its claim.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct BuildRequest {
    /// The instance's name. Several instances may have the same name.
    pub name: String,
    /// Name or id of the image. Absent if the instance has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Labels of the instance, which nothing interprets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

impl BuildRequest {
    /// Refuses texts that would be unreadable in a list, and more tags than Nova allows. The error says which text it is.
    pub fn check(&self) -> Result<(), String> {
        let texts = [("the name of an instance", &self.name)];
        let image = self.image.iter().map(|image| ("its image", image));
        let tags = self.tags.iter().map(|tag| ("a tag", tag));
        for (what, text) in texts.into_iter().chain(image).chain(tags) {
            if !is_name(text) {
                return Err(format!(
                    "{what} is {text:?}; it must have 1 to {MAX_NAME} bytes and no control characters"
                ));
            }
        }
        match self.tags.len() {
            0..=MAX_TAGS => Ok(()),
            tags => Err(format!("instance {} has {tags} tags; at most {MAX_TAGS} are allowed", self.name)),
        }
    }
}

/// Where an instance is in its life: Nova's `vm_state`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VmState {
    /// The host builds it.
    #[default]
    Building,
    /// It was built and is to run.
    Active,
    /// It was built and is to be off.
    Stopped,
    /// Something failed; the fault says what.
    Error,
}

impl VmState {
    /// Nova's word for it, which is also the form on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Active => "active",
            Self::Stopped => "stopped",
            Self::Error => "error",
        }
    }
}

impl Display for VmState {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a host does with an instance just now: Nova's `task_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskState {
    /// The driver makes the guest.
    Spawning,
    /// The guest is being started.
    PoweringOn,
    /// The guest is being stopped.
    PoweringOff,
    /// The guest is being destroyed.
    Deleting,
}

impl TaskState {
    /// Nova's word for it, which is also the form on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Spawning => "spawning",
            Self::PoweringOn => "powering-on",
            Self::PoweringOff => "powering-off",
            Self::Deleting => "deleting",
        }
    }
}

impl Display for TaskState {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// An instance as its host reports it, beside its claim.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceState {
    /// What is built.
    #[serde(flatten)]
    pub build: BuildRequest,
    /// Where it is in its life.
    pub vm_state: VmState,
    /// What the host does with it just now. Absent if nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_state: Option<TaskState>,
    /// Whether the guest runs.
    #[serde(default)]
    pub power_state: PowerState,
    /// What failed last, for people. Absent if nothing did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// When the host took it, RFC 3339 by the host's clock.
    #[serde(default)]
    pub created_at: String,
}

/// Something that happened to an instance on its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceEvent {
    /// When, RFC 3339 by the host's clock.
    pub at: String,
    /// What happened, such as `build started` or `build failed`.
    pub event: String,
    /// More about it, for people. Absent if there is no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// An instance, a claim or a hold, as a scheduler lists it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct InstanceSummary {
    /// The instance's uuid.
    pub uuid: Uuid,
    /// Name of its host.
    pub host: String,
    /// The instance. Absent for a claim or a hold, which no driver builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceState>,
    /// Time that is left of a hold, milliseconds. Absent for claims and instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_ms: Option<u64>,
    /// Number of CPUs.
    pub vcpus: u32,
    /// Memory, MiB.
    pub memory_mb: u64,
    /// Disk, GiB.
    pub disk_gb: u64,
    /// The flavor's id, or its name if it has no id. Absent if it has neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flavor: Option<String>,
    /// Name of its server group. Absent if it is in none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The decision that chose the host. Absent if the host does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// The broker user to whom it belongs. Absent if it belongs to everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Seconds since its host last reported.
    #[serde(default)]
    pub age_s: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_a_list_cannot_show_are_refused() {
        let build = |name: &str| BuildRequest { name: name.to_owned(), ..BuildRequest::default() };
        let good = BuildRequest {
            image: Some("debian".to_owned()),
            tags: vec!["blue".to_owned()],
            ..build("web 1")
        };
        assert_eq!(good.check(), Ok(()));
        for name in ["", "a\nb", "a\u{1b}[2J", &"x".repeat(MAX_NAME + 1)] {
            assert!(build(name).check().unwrap_err().starts_with("the name of an instance is "), "{name:?}");
        }
        let image = BuildRequest { image: Some(String::new()), ..build("a") };
        assert!(image.check().unwrap_err().starts_with("its image is \"\""));
        let tag = BuildRequest { tags: vec!["\0".to_owned()], ..build("a") };
        assert!(tag.check().unwrap_err().starts_with("a tag is "));
        let many = BuildRequest { tags: vec!["t".to_owned(); MAX_TAGS + 1], ..build("a") };
        assert_eq!(many.check().unwrap_err(), "instance a has 51 tags; at most 50 are allowed");
    }

    #[test]
    fn states_are_written_as_nova_writes_them() {
        let state = InstanceState {
            build: BuildRequest { name: "web1".to_owned(), ..BuildRequest::default() },
            task_state: Some(TaskState::PoweringOff),
            ..InstanceState::default()
        };
        let text = r#"{"name":"web1","vm_state":"building","task_state":"powering-off","power_state":"NOSTATE","created_at":""}"#;
        assert_eq!(serde_json::to_string(&state).unwrap(), text);
        assert_eq!(serde_json::from_str::<InstanceState>(text).unwrap(), state);
        for state in [VmState::Building, VmState::Active, VmState::Stopped, VmState::Error] {
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        }
        for task in [TaskState::Spawning, TaskState::PoweringOn, TaskState::PoweringOff, TaskState::Deleting]
        {
            assert_eq!(serde_json::to_value(task).unwrap(), task.name());
        }
    }
}
