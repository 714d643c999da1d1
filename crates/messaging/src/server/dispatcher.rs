//! Finds the endpoint that serves a request.

use std::sync::Arc;

use crate::endpoint::{Endpoint, Method};
use crate::error::CallError;
use crate::request::RpcRequest;

/// All endpoints of a server in order of registration. The first that fits a request serves it.
#[derive(Clone, Default)]
pub(super) struct Dispatcher(Vec<Arc<dyn Endpoint>>);

impl Dispatcher {
    pub(super) fn add(&mut self, endpoint: Arc<dyn Endpoint>) {
        self.0.push(endpoint);
    }

    /// The endpoint that serves the request, and its method.
    pub(super) fn resolve(&self, request: &RpcRequest) -> Result<(&Arc<dyn Endpoint>, Method), CallError> {
        let mut error = CallError::UnsupportedVersion;
        for endpoint in &self.0 {
            if endpoint.namespace() != request.namespace.as_deref()
                || !endpoint.version().serves(request.version)
            {
                continue;
            }
            error = CallError::NoSuchMethod;
            // A name with a leading underscore is private: no peer may call it, even if an endpoint lists it.
            let named = endpoint.methods().iter().find(|method| method.name == request.method);
            if let Some(method) = named.filter(|method| !method.name.starts_with('_')) {
                return Ok((endpoint, *method));
            }
        }
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use serde_json::value::RawValue;

    use super::*;
    use crate::authority::MethodClass;
    use crate::endpoint::answer;
    use crate::target::Version;

    struct Fixed(Option<&'static str>, Version, Vec<Method>);

    fn fixed(namespace: Option<&'static str>, version: Version, methods: &[&'static str]) -> Arc<Fixed> {
        let methods = methods.iter().map(|&name| Method { name, class: MethodClass::Read, long: false });
        Arc::new(Fixed(namespace, version, methods.collect()))
    }

    #[async_trait]
    impl Endpoint for Fixed {
        fn namespace(&self) -> Option<&str> {
            self.0
        }
        fn version(&self) -> Version {
            self.1
        }
        fn methods(&self) -> &[Method] {
            &self.2
        }
        async fn dispatch(&self, _: &RpcRequest) -> Result<Box<RawValue>, CallError> {
            answer(&self.1.to_string())
        }
    }

    fn dispatcher() -> Dispatcher {
        let mut all = Dispatcher::default();
        all.add(fixed(None, Version::new(1, 3), &["ping", "_private"]));
        all.add(fixed(None, Version::new(2, 0), &["ping", "pong"]));
        all.add(fixed(Some(""), Version::new(1, 0), &["empty"]));
        all.add(fixed(Some("baseapi"), Version::new(1, 1), &["ping"]));
        all
    }

    fn resolve(namespace: Option<&str>, version: &str, method: &str) -> Result<Version, &'static str> {
        let mut request = RpcRequest::new(method, version.parse().unwrap(), &()).unwrap();
        request.namespace = namespace.map(Into::into);
        let all = dispatcher();
        all.resolve(&request).map(|(endpoint, _)| endpoint.version()).map_err(|error| error.kind())
    }

    #[test]
    fn the_first_endpoint_that_fits_serves() {
        assert_eq!(resolve(None, "1.0", "ping"), Ok(Version::new(1, 3)));
        assert_eq!(resolve(None, "2.0", "ping"), Ok(Version::new(2, 0)));
        assert_eq!(resolve(Some("baseapi"), "1.1", "ping"), Ok(Version::new(1, 1)));
        assert_eq!(resolve(Some(""), "1.0", "empty"), Ok(Version::new(1, 0)));
    }

    #[test]
    fn refusals_are_classed_as_peers_expect() {
        assert_eq!(resolve(None, "1.0", "pong"), Err("no_such_method"));
        assert_eq!(resolve(None, "1.0", "_private"), Err("no_such_method"));
        for (namespace, version) in [(None, "1.4"), (None, "3.0"), (None, "0.9"), (Some("other"), "1.0")] {
            assert_eq!(
                resolve(namespace, version, "ping"),
                Err("unsupported_version"),
                "{namespace:?} {version}"
            );
        }
        // The null namespace is not the empty one.
        assert_eq!(resolve(None, "1.0", "empty"), Err("no_such_method"));
        let error = CallError::NoSuchMethod.into_remote("fly", "1.0");
        assert_eq!((&*error.module, &*error.class), ("oslo_messaging.rpc.dispatcher", "NoSuchMethod"));
        assert_eq!(error.args, ["Endpoint does not support RPC method fly"]);
        let error = CallError::UnsupportedVersion.into_remote("fly", "1.9");
        assert_eq!(error.message, "Endpoint does not support RPC version 1.9. Attempted method: fly");
    }
}
