//! What each request, outcome and reading makes of the state of one instance.
//!
//! What always holds: task_state says what the driver must do, so a process that starts on the record goes on where the last one
//! was. An instance that ends never comes back. Events are bounded.
//!
//! Left out: the disk, the driver and time. Times are arguments.

use novella_objects::{BuildRequest, InstanceEvent, InstanceState, PowerState, Rank, TaskState, VmState};

use crate::claims::record::{Ending, InstanceRecord};

/// How many events of an instance are kept: the newest.
const MAX_EVENTS: usize = 16;
/// The longest text of a fault or an event, in bytes. Drivers can say a lot, and it is in each report.
const MAX_TEXT: usize = 1024;
/// How many tags an instance has at most.
const MAX_TAGS: usize = 64;

/// What the driver has to do with a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Spawn,
    PowerOn,
    PowerOff,
    Destroy,
}

/// What is wrong with a build request.
pub(crate) fn fault_of(build: &BuildRequest) -> Option<String> {
    let is_name = novella_objects::is_name;
    let not_a_name = "is not a name: it is empty, too long, or has control characters";
    if !is_name(&build.name) {
        return Some(format!("name {not_a_name}"));
    }
    if build.image.as_deref().is_some_and(|image| !is_name(image)) {
        return Some(format!("image {not_a_name}"));
    }
    if build.tags.len() > MAX_TAGS {
        return Some(format!("it has {} tags, and at most {MAX_TAGS} are allowed", build.tags.len()));
    }
    let bad = build.tags.iter().position(|tag| !is_name(tag))?;
    Some(format!("tag {} {not_a_name}", bad + 1))
}

impl InstanceRecord {
    /// An instance that is to be built.
    pub fn new(build: BuildRequest, at: String) -> Self {
        let state = InstanceState {
            build,
            vm_state: VmState::Building,
            task_state: Some(TaskState::Spawning),
            created_at: at.clone(),
            ..InstanceState::default()
        };
        let mut record = Self { state, ..Self::default() };
        record.tell(at, "build started", None);
        record
    }

    /// Adds an event.
    pub fn tell(&mut self, at: String, event: &str, detail: Option<&str>) {
        if self.events.len() >= MAX_EVENTS {
            self.events.remove(0);
        }
        self.events.push(InstanceEvent { at, event: event.to_owned(), detail: detail.map(shortened) });
    }

    /// What the driver has to do. `None` if the guest is as it should be.
    pub fn step(&self) -> Option<Step> {
        if self.ending.is_some() {
            return Some(Step::Destroy);
        }
        self.state.task_state.map(|task| match task {
            TaskState::Spawning => Step::Spawn,
            TaskState::PoweringOn => Step::PowerOn,
            TaskState::PoweringOff => Step::PowerOff,
            TaskState::Deleting => Step::Destroy,
        })
    }

    fn is_spawning(&self) -> bool {
        self.state.task_state == Some(TaskState::Spawning)
    }

    /// Why the instance can be neither started nor stopped now.
    fn busy(&self) -> Option<&'static str> {
        if self.ending.is_some() {
            return Some("it is being deleted");
        }
        self.is_spawning().then_some("it is being built; wait until it is active, or delete it")
    }

    /// Asks for the guest to be off. Returns whether anything has changed, or why it cannot be stopped.
    pub fn stop(&mut self, at: String) -> Result<bool, &'static str> {
        if let Some(reason) = self.busy() {
            return Err(reason);
        }
        if self.state.vm_state == VmState::Stopped
            && matches!(self.state.task_state, None | Some(TaskState::PoweringOff))
        {
            return Ok(false);
        }
        (self.state.vm_state, self.state.task_state) = (VmState::Stopped, Some(TaskState::PoweringOff));
        self.tell(at, "stop requested", None);
        Ok(true)
    }

    /// Asks for the guest to run. Returns whether anything has changed, or why it cannot be started.
    pub fn start(&mut self, at: String) -> Result<bool, &'static str> {
        let (vm_state, task_state) = (self.state.vm_state, self.state.task_state);
        let is_active = vm_state == VmState::Active && self.ending.is_none();
        let starts = matches!(task_state, Some(TaskState::PoweringOn | TaskState::Spawning));
        let runs = task_state.is_none() && self.state.power_state == PowerState::Running;
        if is_active && (starts || runs) {
            return Ok(false);
        }
        if let Some(reason) = self.busy() {
            return Err(reason);
        }
        (self.state.vm_state, self.state.task_state) = (VmState::Active, Some(TaskState::PoweringOn));
        self.tell(at, "start requested", None);
        Ok(true)
    }

    /// Asks for the end of the instance. Returns whether anything has changed.
    pub fn end(&mut self, up_to_rank: Option<Rank>, at: String) -> bool {
        let ending = Some(Ending::Terminated(up_to_rank));
        if self.ending == ending {
            return false;
        }
        self.ending = ending;
        self.state.task_state = Some(TaskState::Deleting);
        self.tell(at, "delete requested", None);
        true
    }

    /// Takes note of a step of the driver that succeeded. The end of an instance is not noted here, because its record goes.
    pub fn done(&mut self, step: Step, at: String) {
        let was_building = self.state.vm_state == VmState::Building;
        let (vm_state, power_state, event) = match step {
            Step::Spawn if was_building => (VmState::Active, PowerState::Running, "build succeeded"),
            Step::Spawn | Step::PowerOn => (VmState::Active, PowerState::Running, "started"),
            Step::PowerOff => (VmState::Stopped, PowerState::Shutdown, "stopped"),
            Step::Destroy => return,
        };
        (self.state.vm_state, self.state.task_state) = (vm_state, None);
        (self.state.power_state, self.state.fault) = (power_state, None);
        self.tell(at, event, None);
    }

    /// Takes note of a step of the driver that failed. A build is given up: its guest goes, and a claim of a higher rank than
    /// `rank` may come. Returns whether this was a build.
    pub fn failed(&mut self, step: Step, fault: &str, rank: Rank, at: String) -> bool {
        self.state.fault = Some(shortened(fault));
        let is_build = step == Step::Spawn && self.state.vm_state == VmState::Building;
        let (vm_state, task_state, event) = match step {
            Step::Spawn if is_build => (VmState::Error, Some(TaskState::Deleting), "build failed"),
            Step::Spawn => (VmState::Error, None, "start failed"),
            // The guest is taken to be as it was. The next reading shows whether that is so.
            Step::PowerOn => (VmState::Stopped, None, "start failed"),
            Step::PowerOff => (VmState::Active, None, "stop failed"),
            Step::Destroy => (self.state.vm_state, Some(TaskState::Deleting), "destroy failed; trying again"),
        };
        if is_build {
            self.ending = Some(Ending::FailedBuild(rank));
        }
        (self.state.vm_state, self.state.task_state) = (vm_state, task_state);
        self.tell(at, event, Some(fault));
        is_build
    }

    /// Compares the instance with its guest, which is `None` if the host has none. Returns whether more than the power state
    /// has changed. This is Nova's `sync_power_states`.
    pub fn observe(&mut self, guest: Option<PowerState>, at: String) -> bool {
        if self.step().is_some() {
            return false;
        }
        let power_state = guest.unwrap_or_default();
        self.state.power_state = power_state;
        match (self.state.vm_state, power_state) {
            (VmState::Active, PowerState::NoState) => {
                self.state.task_state = Some(TaskState::Spawning);
                self.tell(at, "guest was gone; started again", None);
            }
            (VmState::Active, PowerState::Shutdown | PowerState::Crashed) => {
                self.state.vm_state = VmState::Stopped;
                self.tell(at, "guest was found off", Some(power_state.name()));
            }
            (VmState::Stopped, PowerState::Running) => {
                self.state.task_state = Some(TaskState::PoweringOff);
                self.tell(at, "guest was found running; stopping it", None);
            }
            _ => return false,
        }
        true
    }
}

/// The text, cut to the longest that is kept.
fn shortened(text: &str) -> String {
    if text.len() <= MAX_TEXT {
        return text.to_owned();
    }
    let end = (0..=MAX_TEXT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests;
