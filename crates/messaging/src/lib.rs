//! RPC over AMQP in the oslo.messaging protocol: call, cast, fanout; rabbit and in-process transports.
