//! Makes a [`novella_messaging::Endpoint`] of an endpoint trait.

/// Serves an endpoint trait by a table of its methods: the class of each, its name and its result. `long` follows the class of
/// a method whose answer grows with the fleet. The names between the bars stand for the request's context, its arguments, and
/// the endpoint.
macro_rules! serve {
    ($server:ident<$endpoint:ident> at $version:expr, |$context:ident, $args:ident, $served:ident| {
        $($class:ident $($long:ident)? $method:literal => $result:expr,)*
    }) => {
        #[async_trait]
        impl<E: $endpoint> Endpoint for $server<E> {
            fn version(&self) -> Version {
                $version
            }

            fn methods(&self) -> &[Method] {
                &[$(Method {
                    name: $method,
                    class: MethodClass::$class,
                    long: crate::serve::is_long!($($long)?),
                }),*]
            }

            async fn dispatch(&self, request: &RpcRequest) -> Result<Box<RawValue>, CallError> {
                let ($context, $args, $served) = (&request.context, request.args(), &self.0);
                match request.method.as_str() {
                    $($method => answer(&$result),)*
                    _ => Err(CallError::NoSuchMethod),
                }
            }
        }
    };
}

/// Whether a method's row says `long`.
macro_rules! is_long {
    () => {
        false
    };
    (long) => {
        true
    };
}

pub(crate) use {is_long, serve};
