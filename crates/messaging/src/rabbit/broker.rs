//! One broker that can be dialled.

/// One broker to try, with its credentials. Has no `Debug`, so that no log shows the password.
pub(super) struct Broker {
    /// Name or address, without brackets.
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
    pub vhost: String,
}

impl Broker {
    /// `host:port/vhost`, for people. The slash of the default vhost `/` is not repeated.
    pub(super) fn name(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{host}:{}/{}", self.port, self.vhost.strip_prefix('/').unwrap_or(&self.vhost))
    }
}
