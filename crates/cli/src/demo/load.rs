//! The requests of the demo: what they ask for, how long they live, and when they come.

use std::time::Duration;

use novella_objects::{BuildRequest, Flavor, PlacementRequest, RequestSpec, SelectDestinations};
use novella_rpcapi::CreateInstance;
use novella_service::Random;
use tokio::time::Instant;
use uuid::Uuid;

/// The length of a wave. Most requests come in its first part, so that hosts fill in it and drain in the rest.
const WAVE: Duration = Duration::from_secs(14);
/// The length of the first part.
const FILLING: Duration = Duration::from_secs(9);
/// The rate of requests in the rest of a wave, as a share of the rate in the first part.
const EBB: f64 = 0.1;
/// The shortest and the longest time that an instance lives, in seconds.
const LIFETIME: (f64, f64) = (4.0, 12.0);

/// A flavor that the demo asks for.
#[derive(Debug, Clone, Copy)]
pub struct DemoFlavor {
    /// The name that is shown.
    pub name: &'static str,
    vcpus: u32,
    memory_gb: u64,
    disk_gb: u64,
    zone: Option<&'static str>,
    arch: Option<&'static str>,
    /// How often it is asked for, compared with the others.
    share: u32,
}

const fn flavor(name: &'static str, vcpus: u32, memory_gb: u64, disk_gb: u64, share: u32) -> DemoFlavor {
    DemoFlavor { name, vcpus, memory_gb, disk_gb, zone: None, arch: None, share }
}

const FLAVORS: [DemoFlavor; 8] = [
    flavor("small", 1, 2, 10, 30),
    flavor("medium", 2, 4, 20, 28),
    flavor("large", 4, 8, 40, 18),
    flavor("xlarge", 8, 16, 80, 7),
    flavor("memory", 2, 24, 20, 6),
    flavor("store", 1, 2, 300, 5),
    DemoFlavor { zone: Some("edge"), ..flavor("edge", 2, 2, 10, 4) },
    DemoFlavor { arch: Some("aarch64"), ..flavor("arm", 1, 1, 5, 2) },
];

/// Draws a flavor by its share.
pub fn draw(random: &Random) -> DemoFlavor {
    let all: u32 = FLAVORS.iter().map(|flavor| flavor.share).sum();
    let mut at = (random.u64() % u64::from(all)) as u32;
    let drawn = FLAVORS.into_iter().find(|flavor| {
        let here = at < flavor.share;
        at = at.saturating_sub(flavor.share);
        here
    });
    drawn.expect("the number drawn is below the sum of the shares")
}

impl DemoFlavor {
    /// A request for one instance of this flavor, with its name. `attempt` counts from 1.
    pub fn request(&self, uuid: Uuid, attempt: u32) -> CreateInstance {
        let flavor = Flavor {
            name: self.name.to_owned(),
            vcpus: self.vcpus,
            memory_mb: self.memory_gb * 1024,
            root_gb: self.disk_gb,
            extra_specs: self
                .arch
                .map(|arch| ("capabilities:cpu_info:arch".to_owned(), arch.to_owned()))
                .into_iter()
                .collect(),
            ..Flavor::default()
        };
        let request = SelectDestinations {
            request_spec: PlacementRequest {
                instance_uuids: vec![uuid],
                spec: RequestSpec {
                    flavor,
                    availability_zone: self.zone.map(str::to_owned),
                    ..RequestSpec::default()
                },
                attempt,
            },
            ..SelectDestinations::default()
        };
        let build =
            BuildRequest { name: format!("{}-{}", self.name, uuid.simple()), ..BuildRequest::default() };
        CreateInstance { request, builds: vec![build] }
    }
}

/// Draws how long an instance lives.
pub fn lifetime(random: &Random) -> Duration {
    Duration::from_secs_f64(LIFETIME.0 + (LIFETIME.1 - LIFETIME.0) * random.unit())
}

/// When requests come.
pub struct Wave {
    /// Requests per second in the first part of a wave.
    flood: f64,
}

impl Wave {
    /// Waves with this many requests per second on average.
    pub fn new(rate: f64) -> Self {
        let filling = FILLING.as_secs_f64() / WAVE.as_secs_f64();
        Self { flood: rate / (filling + EBB * (1.0 - filling)) }
    }

    /// Whether this time after the start is in the first part of a wave, in which hosts fill.
    pub fn is_filling(&self, elapsed: Duration) -> bool {
        elapsed.as_secs_f64() % WAVE.as_secs_f64() < FILLING.as_secs_f64()
    }

    /// Draws when the request after the last one comes. Requests come independently of each other.
    pub fn next_arrival(&self, last: Instant, began: Instant, random: &Random) -> Instant {
        let rate = if self.is_filling(last - began) { self.flood } else { self.flood * EBB };
        let gap = -(1.0 - random.unit()).ln() / rate;
        // A gap of the slow part does not reach into the next wave.
        let ebb_ends = WAVE.as_secs_f64() - (last - began).as_secs_f64() % WAVE.as_secs_f64();
        let next = last + Duration::from_secs_f64(gap.min(ebb_ends.max(1e-3)));
        // Requests that could not be sent in time are not sent later.
        next.max(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flavor_is_drawn_about_as_often_as_its_share() {
        let random = Random::from_number(1);
        let drawn: Vec<_> = (0..10_000).map(|_| draw(&random).name).collect();
        for flavor in FLAVORS {
            let times = drawn.iter().filter(|name| **name == flavor.name).count() as f64 / 100.0;
            assert!((times - f64::from(flavor.share)).abs() < 2.0, "{} {times} %", flavor.name);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wave_has_the_rate_that_was_asked_for() {
        let (wave, random, began) = (Wave::new(10.0), Random::from_number(1), Instant::now());
        let (mut at, mut filling, mut all) = (began, 0, 0);
        while at - began < WAVE * 20 {
            all += 1;
            filling += usize::from(wave.is_filling(at - began));
            at = wave.next_arrival(at, began, &random);
        }
        let rate = f64::from(all) / (WAVE * 20).as_secs_f64();
        assert!((9.0..11.5).contains(&rate), "{rate}");
        assert!(filling as f64 > 0.9 * f64::from(all), "{filling} of {all}");
    }
}
