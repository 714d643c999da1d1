//! A request whose names were replaced by the flavor and the PCI devices that the current policy defines for them.
//!
//! What always holds: a request is resolved once, when it arrives. Everything that decides, inspects or counts uses this
//! form, so that the request can be asked again even if the policy has changed.
//!
//! Left out: server groups, whose members come and go. They are looked up each time that a request is decided.

use std::borrow::Cow;

use novella_filter_scheduler::{Failure, FilterKind, OnFilterError, SchedulerOptions};
use novella_objects::{Image, RequestSpec, SelectDestinations};

use crate::holder::{By, Holder};
use crate::policy::file::PolicyFile;
use crate::policy::pci_alias::pci_requests;

/// See the module documentation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resolved {
    request: SelectDestinations,
    /// By whom the placement is asked for.
    by: By,
    /// Hosts that refused the request, which is not asked of them again.
    refused_by: Vec<String>,
}

impl Resolved {
    /// Looks up the names of a request in a policy.
    pub(crate) fn new(policy: &PolicyFile, mut request: SelectDestinations) -> Result<Self, Failure> {
        let spec = &mut request.request_spec.spec;
        if let Some(name) = request.flavor.take() {
            let Some(flavor) = policy.flavor(&name) else {
                let known: Vec<_> = policy.flavors.keys().map(String::as_str).collect();
                return Err(Failure::Unknown { what: "flavor", name, known: known.join(", ") });
            };
            spec.flavor.clone_from(flavor);
        }
        let image = spec.image.as_ref();
        if let Some(devices) = pci_requests(&policy.pci_aliases, &spec.flavor, image, &spec.pci_requests)? {
            spec.pci_requests = devices;
        }
        // In Nova every request has an image, and NUMATopologyFilter fails without one.
        if spec.image.is_none() && fails_without_image(&policy.options) {
            spec.image = Some(Image::default());
        }
        Ok(Self { request, by: By::default(), refused_by: Vec::new() })
    }

    /// The same request, whose placement will belong to this broker user. Without a user, everybody may release it.
    pub fn asked_by(self, user: Option<&str>) -> Self {
        let by = By { owner: user.map(Into::into), ..self.by };
        Self { by, ..self }
    }

    /// The same request, which counts towards the quotas of this broker user and of the project that it names.
    pub fn held_for(self, user: &str) -> Self {
        let project = self.request.request_spec.spec.project_id.as_deref().filter(|id| !id.is_empty());
        let holder = Holder { user: Some(user.into()), project: project.map(Into::into) };
        Self { by: By { holder, ..self.by }, ..self }
    }

    /// The same request, which these hosts have refused. It is still the same request: whoever repeats it does not know them.
    pub fn refused_by(self, hosts: &[String]) -> Self {
        Self { refused_by: hosts.to_vec(), ..self }
    }

    /// What the engine is asked about a request with this spec: hosts that have refused it are ignored.
    pub(crate) fn for_engine<'s>(&self, spec: &'s RequestSpec) -> Cow<'s, RequestSpec> {
        if self.refused_by.is_empty() {
            return Cow::Borrowed(spec);
        }
        let mut spec = spec.clone();
        spec.ignore_hosts.extend_from_slice(&self.refused_by);
        Cow::Owned(spec)
    }

    /// By whom the placement is asked for.
    pub(crate) fn by(&self) -> &By {
        &self.by
    }

    /// The broker user to whom the placement will belong. Without one, everybody may release it.
    pub fn owner(&self) -> Option<&str> {
        self.by.owner.as_deref()
    }

    /// The request. It names no flavor of the policy.
    pub fn request(&self) -> &SelectDestinations {
        &self.request
    }
}

/// Whether a request without an image would fail, instead of being asked of the hosts.
fn fails_without_image(options: &SchedulerOptions) -> bool {
    options.on_filter_error == OnFilterError::FailRequest
        && options.enabled_filters.contains(&FilterKind::NumaTopology)
}
