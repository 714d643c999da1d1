//! What the attributes say about misuse: each file in `ui/` fails to compile with exactly the text stored beside it.
//!
//! After an intended change of a text: `TRYBUILD=overwrite cargo test -p novella-periodic-task --test compile_fail`.

#[test]
fn misuse_is_refused_where_it_stands_with_what_to_write() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
