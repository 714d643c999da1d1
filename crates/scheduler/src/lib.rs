//! The central daemon: host-state map from reports, placements from the map.
