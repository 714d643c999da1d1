//! The operator's command line: novella.
