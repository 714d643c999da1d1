//! The machine behind fake drivers: its guests, and the scripts that say how calls to it end.
//!
//! What always holds:
//! - Guests and the places in the scripts are kept when a driver is dropped. The next driver on this machine goes on from
//!   there, as after a restart of the agent.
//! - A build makes its guest at once, without power, and starts it at the end. A build that fails removes it. A build that is
//!   dropped leaves it, as a real hypervisor may.
//! - The lock is never held across an await.
//!
//! Left out on purpose: whether guests fit. The agent's claims decide that, and hypervisors can be overcommitted.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use novella_objects::PowerState;
use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use crate::driver_error::DriverError;
use crate::fake_config::{FakeConfig, FakeStep};
use crate::instance::{DriverInstance, InstanceSpec};
use crate::instance_error::{Attempt, InstanceError};
use crate::probe::Completion;
use crate::probe_error::ProbeError;

/// The machine behind fake drivers. It is kept by whoever wants its guests to outlive a driver.
pub struct FakeHypervisor {
    config: Arc<FakeConfig>,
    booted: Instant,
    state: Mutex<State>,
    /// Wakes the calls that hang.
    released: Notify,
}

#[derive(Default)]
struct State {
    guests: BTreeMap<Uuid, DriverInstance>,
    places: Places,
    /// How many builds were left to chance.
    chances: u64,
    /// The reading that hangs. There is at most one, because a probe under way is not begun again.
    hanging: Option<Completion<()>>,
}

/// How many steps of each script were taken.
#[derive(Default)]
struct Places {
    readings: usize,
    spawns: usize,
    destructions: usize,
    power: usize,
}

/// What guests take.
pub(super) struct GuestAmounts {
    /// Virtual CPUs of the guests that are not off.
    pub(super) vcpus: u32,
    /// Memory of the guests that are not off, MiB.
    pub(super) memory_mb: u64,
    /// Disk of all guests, GiB.
    pub(super) disk_gb: u64,
}

impl FakeHypervisor {
    /// A machine of this size without guests.
    pub fn new(config: Arc<FakeConfig>) -> Result<Arc<Self>, DriverError> {
        config.check()?;
        Ok(Arc::new(Self {
            config,
            booted: Instant::now(),
            state: Mutex::default(),
            released: Notify::new(),
        }))
    }

    /// Lets every call that hangs now go on and succeed. If none hangs, nothing happens.
    pub fn release(&self) {
        let reading = self.lock().hanging.take();
        if let Some(completion) = reading {
            completion.finish(Ok(()));
        }
        self.released.notify_waiters();
    }

    pub(super) fn config(&self) -> &FakeConfig {
        &self.config
    }

    pub(super) fn uptime(&self) -> Duration {
        self.booted.elapsed()
    }

    pub(super) fn used(&self) -> GuestAmounts {
        let none = GuestAmounts { vcpus: 0, memory_mb: 0, disk_gb: 0 };
        self.lock().guests.values().fold(none, |used, guest| {
            let on = guest.power_state != PowerState::Shutdown;
            GuestAmounts {
                vcpus: used.vcpus.saturating_add(if on { guest.vcpus } else { 0 }),
                memory_mb: used.memory_mb.saturating_add(if on { guest.memory_mb } else { 0 }),
                disk_gb: used.disk_gb.saturating_add(guest.disk_gb),
            }
        })
    }

    pub(super) fn list(&self) -> Vec<DriverInstance> {
        self.lock().guests.values().cloned().collect()
    }

    /// Begins a reading, and ends it as the script says.
    pub(super) fn read(&self, completion: Completion<()>) {
        let step = next(&self.config.script, &mut self.lock().places.readings);
        match step.unwrap_or(FakeStep::Ok) {
            FakeStep::Ok => completion.finish(Ok(())),
            FakeStep::Fail(reason) | FakeStep::Reject(reason) => {
                completion.finish(Err(ProbeError::Other(reason.into())));
            }
            FakeStep::Hang => self.lock().hanging = Some(completion),
            FakeStep::Delay(time) => {
                // The task ends with the delay. It is detached, because the answer must come even if the reader has gone.
                tokio::spawn(async move {
                    tokio::time::sleep(time).await;
                    completion.finish(Ok(()));
                });
            }
        }
    }

    /// Builds an instance on the host called `host`.
    pub(super) async fn spawn(&self, host: &str, spec: &InstanceSpec) -> Result<(), InstanceError> {
        let attempt = Attempt::Spawn(spec.uuid);
        let Some(step) = self.begin_build(host, spec)? else { return Ok(()) };
        if self.config.spawn_delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(self.config.spawn_delay_ms)).await;
        }
        let outcome = self.follow(step, attempt).await;
        let guests = &mut self.lock().guests;
        if let Err(error) = outcome {
            if guests.get(&spec.uuid).is_some_and(|guest| guest.power_state == PowerState::NoState) {
                guests.remove(&spec.uuid);
            }
            return Err(error);
        }
        let guest = guests.get_mut(&spec.uuid).ok_or(InstanceError::Destroyed { attempt })?;
        guest.power_state = PowerState::Running;
        Ok(())
    }

    /// Makes the guest if there is none. Returns the step that the build takes, or `None` if the guest runs already.
    fn begin_build(&self, host: &str, spec: &InstanceSpec) -> Result<Option<FakeStep>, InstanceError> {
        let attempt = Attempt::Spawn(spec.uuid);
        let images = &self.config.images;
        if let Some(image) = spec.image.as_ref().filter(|image| !images.is_empty() && !images.contains(image))
        {
            let reason = format!(
                "there is no image {image:?}; use one of the images that exist: {}",
                images.join(", ")
            );
            return Err(InstanceError::Rejected { attempt, reason });
        }
        let state = &mut *self.lock();
        let guest = state.guests.entry(spec.uuid).or_insert_with(|| DriverInstance {
            uuid: spec.uuid,
            name: spec.name.clone(),
            power_state: PowerState::NoState,
            vcpus: spec.vcpus,
            memory_mb: spec.memory_mb,
            disk_gb: spec.disk_gb,
        });
        if (guest.vcpus, guest.memory_mb, guest.disk_gb) != (spec.vcpus, spec.memory_mb, spec.disk_gb) {
            let reason = format!(
                "the host already has an instance of this uuid with {} vCPUs, {} MiB of memory and {} GiB of disk; destroy \
                 it first",
                guest.vcpus, guest.memory_mb, guest.disk_gb
            );
            return Err(InstanceError::failed(attempt, reason));
        }
        if guest.power_state == PowerState::Running {
            return Ok(None);
        }
        let scripted = next(&self.config.spawn_script, &mut state.places.spawns);
        Ok(Some(scripted.unwrap_or_else(|| self.by_chance(host, &mut state.chances))))
    }

    /// The step of a build that no script decides.
    fn by_chance(&self, host: &str, chances: &mut u64) -> FakeStep {
        let percent = self.config.spawn_failure_percent;
        if percent == 0 {
            return FakeStep::Ok;
        }
        *chances += 1;
        // The hash is the same wherever this version of the standard library runs. Nothing stores it.
        let mut hash = DefaultHasher::new();
        (self.config.seed, host, *chances).hash(&mut hash);
        if hash.finish() % 100 < u64::from(percent) {
            FakeStep::Fail(format!(
                "the build failed by chance, because fake.spawn_failure_percent is {percent}"
            ))
        } else {
            FakeStep::Ok
        }
    }

    pub(super) async fn destroy(&self, uuid: Uuid) -> Result<(), InstanceError> {
        let step = {
            let state = &mut *self.lock();
            if !state.guests.contains_key(&uuid) {
                return Ok(());
            }
            next(&self.config.destroy_script, &mut state.places.destructions)
        };
        self.follow(step.unwrap_or(FakeStep::Ok), Attempt::Destroy(uuid)).await?;
        self.lock().guests.remove(&uuid);
        Ok(())
    }

    /// Starts a guest if `on` is true, and else stops it.
    pub(super) async fn power(&self, uuid: Uuid, on: bool) -> Result<(), InstanceError> {
        let (attempt, wanted) = if on {
            (Attempt::PowerOn(uuid), PowerState::Running)
        } else {
            (Attempt::PowerOff(uuid), PowerState::Shutdown)
        };
        let step = {
            let state = &mut *self.lock();
            let guest = state.guests.get(&uuid).ok_or(InstanceError::Unknown { attempt })?;
            if guest.power_state == PowerState::NoState {
                return Err(InstanceError::failed(
                    attempt,
                    "its build has not ended; build or destroy it first",
                ));
            }
            if guest.power_state == wanted {
                return Ok(());
            }
            next(&self.config.power_script, &mut state.places.power)
        };
        self.follow(step.unwrap_or(FakeStep::Ok), attempt).await?;
        let guests = &mut self.lock().guests;
        guests.get_mut(&uuid).ok_or(InstanceError::Destroyed { attempt })?.power_state = wanted;
        Ok(())
    }

    async fn follow(&self, step: FakeStep, attempt: Attempt) -> Result<(), InstanceError> {
        match step {
            FakeStep::Ok => {}
            FakeStep::Fail(reason) => return Err(InstanceError::failed(attempt, reason)),
            FakeStep::Reject(reason) => return Err(InstanceError::Rejected { attempt, reason }),
            FakeStep::Delay(time) => tokio::time::sleep(time).await,
            FakeStep::Hang => self.released.notified().await,
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held, and the contents are valid at every step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The next step of a script. `None` if all steps were taken.
fn next(script: &[FakeStep], place: &mut usize) -> Option<FakeStep> {
    let step = script.get(*place)?;
    *place += 1;
    Some(step.clone())
}
