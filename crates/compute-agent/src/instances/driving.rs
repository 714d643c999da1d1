//! Calls the driver until the guest of an instance is as it should be.
//!
//! What always holds: one task drives an instance. Each call has a deadline, and is dropped when something else is wanted. A guest
//! is destroyed again and again until it is gone, while its claim counts.
//!
//! Left out: what an outcome means (`machine`).

use std::sync::Arc;
use std::time::Duration;

use novella_objects::{Rank, VmState};
use novella_service::exit::chain;
use novella_virt::{Attempt, InstanceError, InstanceSpec};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::claims::record::delete_instance;
use crate::instances::counters::raise;
use crate::instances::machine::Step;
use crate::instances::manager::{Deadlines, Instances, Table};

/// The first wait before a guest is destroyed again, or its end is written again. Each wait is twice the one before.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest such wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A step that is to be taken.
struct Work {
    step: Step,
    /// The state that it was decided on.
    version: u64,
    /// Cancelled when another step is wanted.
    interrupt: CancellationToken,
    spec: InstanceSpec,
    /// Whether this is the build of the instance.
    is_build: bool,
}

impl Instances {
    /// Takes steps until there is nothing to do.
    pub(super) async fn drive(self: Arc<Self>, uuid: Uuid) {
        while let Some(work) = self.next_work(uuid) {
            let ended = tokio::select! { biased;
                () = work.interrupt.cancelled() => false,
                ended = self.take_step(&work) => ended,
            };
            // Another instance of this uuid may be there already, and has a task of its own.
            if ended {
                return;
            }
        }
    }

    fn next_work(&self, uuid: Uuid) -> Option<Work> {
        let claim = self.tracker.with_book(|book| book.claim_of(&uuid).cloned());
        let mut table = self.table();
        let entry = table.live.get_mut(&uuid)?;
        let Some(step) = entry.record.step().filter(|_| entry.pending == 0) else {
            entry.driven = false;
            return None;
        };
        let is_build = step == Step::Spawn && entry.record.state.vm_state == VmState::Building;
        let build = &entry.record.state.build;
        let instance = claim.unwrap_or_default().instance;
        let spec = InstanceSpec {
            uuid,
            name: build.name.clone(),
            vcpus: instance.vcpus,
            memory_mb: instance.memory_mb,
            disk_gb: instance.disk_gb,
            flavor: instance.flavor,
            image: build.image.clone(),
        };
        Some(Work { step, version: entry.version, interrupt: entry.interrupt.clone(), spec, is_build })
    }

    /// Takes one step. Returns whether the instance has ended.
    async fn take_step(&self, work: &Work) -> bool {
        let (spec, uuid) = (&work.spec, work.spec.uuid);
        let Deadlines { spawn, power, .. } = self.deadlines;
        let outcome = match work.step {
            Step::Spawn => {
                if work.is_build {
                    raise(&self.counters.started);
                }
                within(spawn, Attempt::Spawn(uuid), self.driver.spawn(spec)).await
            }
            Step::PowerOn => {
                match within(power, Attempt::PowerOn(uuid), self.driver.power_on(uuid)).await {
                    // The host has lost the guest, so it is made again.
                    Err(InstanceError::Unknown { .. }) => {
                        within(spawn, Attempt::Spawn(uuid), self.driver.spawn(spec)).await
                    }
                    outcome => outcome,
                }
            }
            Step::PowerOff => {
                match within(power, Attempt::PowerOff(uuid), self.driver.power_off(uuid)).await {
                    // What is not there does not run.
                    Err(InstanceError::Unknown { .. }) => Ok(()),
                    outcome => outcome,
                }
            }
            Step::Destroy => {
                self.destroy(uuid).await;
                self.end(uuid).await;
                return true;
            }
        };
        self.note(work, outcome);
        false
    }

    /// Takes note of what came of a step, unless something else is wanted by now.
    fn note(&self, work: &Work, outcome: Result<(), InstanceError>) {
        let uuid = work.spec.uuid;
        let (name, attempt) = (&work.spec.name, work.step);
        self.tracker.write_soon(|book| {
            let mut table = self.table();
            let Table { live, failures } = &mut *table;
            let Some(entry) = live.get_mut(&uuid).filter(|entry| entry.version == work.version) else {
                return Vec::new();
            };
            match &outcome {
                Ok(()) => {
                    entry.record.done(work.step, self.now());
                    if work.is_build {
                        raise(&self.counters.succeeded);
                        failures.reset();
                    }
                    info!(instance = %uuid, name, ?attempt, "the driver has done what the instance needs");
                }
                Err(error) => {
                    let fault = chain(error);
                    warn!(instance = %uuid, name, ?attempt, error = fault, "the driver has failed");
                    let rank = book.claim_of(&uuid).map_or(Rank::default(), |claim| claim.rank);
                    if entry.record.failed(work.step, &fault, rank, self.now()) {
                        book.close(uuid, Some(rank));
                        raise(&self.counters.failed);
                        // A request that no host can build says nothing about this one.
                        if !error.is_final() {
                            failures.count(self.env.clock.now());
                        }
                    }
                }
            }
            vec![entry.write(uuid)]
        });
    }

    /// Destroys a guest, as often as it takes.
    async fn destroy(&self, uuid: Uuid) {
        let mut wait = FIRST_WAIT;
        loop {
            let attempt = self.driver.destroy(uuid);
            let Err(error) = within(self.deadlines.destroy, Attempt::Destroy(uuid), attempt).await else {
                return;
            };
            raise(&self.counters.destroy_retries);
            let fault = chain(&error);
            warn!(instance = %uuid, error = fault, wait_s = wait.as_secs(), "the guest is destroyed again after a wait");
            if wait == FIRST_WAIT {
                // Told once, because the events have no room for every attempt.
                self.tracker.write_soon(|_| {
                    let mut table = self.table();
                    let Some(entry) = table.live.get_mut(&uuid) else { return Vec::new() };
                    entry.record.failed(Step::Destroy, &fault, Rank::default(), self.now());
                    vec![entry.write(uuid)]
                });
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Ends the claim and the record of an instance whose guest is gone, as often as it takes.
    async fn end(&self, uuid: Uuid) {
        let mut wait = FIRST_WAIT;
        loop {
            let ended = self.tracker.end_closed(uuid, delete_instance(uuid), || self.take_out(uuid));
            let Err(error) = ended.await else { break };
            warn!(instance = %uuid, error = chain(&error), "the end of the instance cannot be written; trying again");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        info!(instance = %uuid, "the guest is gone, and its room is free");
    }
}

/// Waits for a call to the driver, but not longer than `limit`.
async fn within(
    limit: Duration,
    attempt: Attempt,
    call: impl Future<Output = Result<(), InstanceError>>,
) -> Result<(), InstanceError> {
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
        Err(InstanceError::failed(attempt, format!("the driver did not answer within {limit:?}")))
    })
}
