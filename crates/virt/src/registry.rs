//! Drivers by name. A crate with a driver of its own registers the driver's constructor before the agent asks for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::driver::{ComputeDriver, DriverOptions};
use crate::driver_error::DriverError;
use crate::fake::FakeDriver;
use crate::linux::LinuxDriver;

/// Makes a driver from options.
pub type Constructor =
    Box<dyn Fn(&DriverOptions) -> Result<Arc<dyn ComputeDriver>, DriverError> + Send + Sync>;

/// Smallest similarity (Jaro-Winkler, 0 to 1) of a name that is offered as a correction.
const NEAR: f64 = 0.7;

/// Compute drivers by name.
pub struct Registry {
    constructors: BTreeMap<String, Constructor>,
}

impl Default for Registry {
    /// The drivers of this crate: `fake` and `linux`.
    fn default() -> Self {
        let mut registry = Self { constructors: BTreeMap::new() };
        registry.register(
            FakeDriver::NAME,
            Box::new(|options| {
                let driver =
                    FakeDriver::new(options.host.clone(), Arc::clone(&options.fake), options.probe_deadline)?;
                Ok(Arc::new(driver))
            }),
        );
        registry.register(LinuxDriver::NAME, Box::new(|options| Ok(Arc::new(LinuxDriver::new(options)))));
        registry
    }
}

impl Registry {
    /// Adds a driver. A driver that already has the name is replaced.
    pub fn register(&mut self, name: impl Into<String>, constructor: Constructor) {
        self.constructors.insert(name.into(), constructor);
    }

    /// The known names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.constructors.keys().map(String::as_str)
    }

    /// The driver called `name`.
    pub fn create(&self, name: &str, options: &DriverOptions) -> Result<Arc<dyn ComputeDriver>, DriverError> {
        match self.constructors.get(name) {
            Some(constructor) => constructor(options),
            None => Err(DriverError::Unknown {
                name: name.to_owned(),
                known: self.names().map(str::to_owned).collect(),
                nearest: self.nearest(name),
            }),
        }
    }

    fn nearest(&self, name: &str) -> Option<String> {
        let lower = name.to_lowercase();
        self.names()
            .map(|known| (strsim::jaro_winkler(&lower, known), known))
            .filter(|(likeness, _)| *likeness >= NEAR)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, known)| known.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> DriverOptions {
        DriverOptions::new("cmp1", Arc::new(|job| job()))
    }

    fn refusal(registry: &Registry, name: &str) -> String {
        match registry.create(name, &options()) {
            Ok(driver) => panic!("{name:?} gave driver {}", driver.name()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_known_name_gives_its_driver() {
        let registry = Registry::default();
        for name in ["fake", "linux"] {
            assert_eq!(registry.create(name, &options()).unwrap().name(), name);
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_and_the_nearest() {
        let registry = Registry::default();
        assert_eq!(
            refusal(&registry, "Linus"),
            r#"there is no compute driver "Linus"; did you mean "linux"? known: fake, linux"#
        );
        assert_eq!(refusal(&registry, "xen"), r#"there is no compute driver "xen"; known: fake, linux"#);
        assert_eq!(refusal(&registry, ""), r#"there is no compute driver ""; known: fake, linux"#);
    }

    #[test]
    fn another_crate_can_bring_a_driver() {
        let mut registry = Registry::default();
        registry.register("libvirt", Box::new(|options| Ok(Arc::new(LinuxDriver::new(options)))));
        assert!(registry.create("libvirt", &options()).is_ok());
        assert!(
            refusal(&registry, "libvrit").contains(r#"did you mean "libvirt"? known: fake, libvirt, linux"#)
        );
    }
}
