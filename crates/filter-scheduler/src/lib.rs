//! Nova's filter scheduler as a pure, synchronous, columnar engine.
