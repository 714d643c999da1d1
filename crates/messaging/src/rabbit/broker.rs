//! One broker that can be dialled, by its name.

/// One broker to try, with its credentials.
pub(super) use crate::url::BrokerHost as Broker;

impl Broker {
    /// `host:port/vhost`, for people. The slash of the default vhost `/` is not repeated.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.address(), self.vhost.strip_prefix('/').unwrap_or(&self.vhost))
    }
}
