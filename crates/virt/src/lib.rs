//! The hypervisor boundary: ComputeDriver, its registry, the linux and fake drivers.
