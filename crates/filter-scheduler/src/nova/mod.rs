//! How Nova's Python reads values: numbers, versions, JSON, the operators of extra specs, the properties of images.
//!
//! What always holds: a text means here what it means to Nova 34, accidents included.
//!
//! Left out: hosts, requests and settings.

pub mod image_properties;
pub(crate) mod json;
pub mod operators;
pub mod python;
pub(crate) mod version;
