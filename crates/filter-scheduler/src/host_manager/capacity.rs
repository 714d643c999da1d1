//! The map copied for counting what fits.

use std::time::Duration;

use novella_objects::RequestSpec;

use super::HostManager;
use crate::{Amounts, Eligible, Failure, FilterScheduler};

impl HostManager {
    /// Which hosts may take instances like those of `spec`, with their amounts; and by row what each holds back for itself.
    /// Takes about as long as one placement and one listing; the counting is done on what is returned.
    pub fn eligible(
        &mut self,
        scheduler: &mut FilterScheduler,
        spec: &RequestSpec,
        now: Duration,
    ) -> Result<(Eligible, Vec<Amounts>), Failure> {
        self.advance(now);
        let held_back = |record: &Option<Box<super::Record>>| {
            let reserved = record.as_ref().map(|record| record.reserved).unwrap_or_default();
            Amounts {
                vcpus: reserved.vcpus.into(),
                memory_mb: reserved.memory_mb,
                disk_gb: reserved.disk_gb,
                instances: 0,
            }
        };
        let held_back = self.records.iter().map(held_back).collect();
        let spec = self.asked_now(spec)?;
        Ok((scheduler.eligible(&mut self.table, &spec)?, held_back))
    }
}
