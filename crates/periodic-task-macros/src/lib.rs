//! The attribute macros of `novella-periodic-task`, which re-exports and documents them.
//!
//! `#[periodic_tasks]` reads an `impl` block (`parse`), takes the `#[periodic_task(..)]` marks off its methods and
//! adds an implementation of the runtime crate's `PeriodicTasks` trait (`expand`). What always holds: a mistake is
//! reported at the tokens that made it, says what to write instead, and is the only error shown for it, because the
//! block itself and the trait are emitted all the same. Nothing here knows when tasks run: that is the runtime's.

mod expand;
mod parse;

use proc_macro::TokenStream;
use proc_macro2::Span;

/// Registers the marked methods of an inherent `impl` block; documented in `novella-periodic-task`.
#[proc_macro_attribute]
pub fn periodic_tasks(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand::periodic_tasks(arguments.into(), item.into()).into()
}

/// The mark on one method of a `#[periodic_tasks]` block; documented in `novella-periodic-task`.
///
/// The block's attribute takes the mark off, so this is reached only by a mark that stands anywhere else.
#[proc_macro_attribute]
pub fn periodic_task(_arguments: TokenStream, item: TokenStream) -> TokenStream {
    let error = syn::Error::new(
        Span::call_site(),
        "`#[periodic_task]` marks a method inside an `impl` block that carries `#[periodic_tasks]`\n\
         write `#[periodic_tasks]` above the `impl` block, and this mark above one of its methods",
    );
    let mut output = TokenStream::from(error.into_compile_error());
    output.extend(item);
    output
}
