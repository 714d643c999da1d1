//! The attribute macros of `novella-periodic-task`, which re-exports and documents them.
//!
//! `#[periodic_tasks]` takes the `#[periodic_task(..)]` marks off the methods of an `impl` block, and adds an
//! implementation of the trait `PeriodicTasks`. A mistake is reported at the tokens that made it, with what to write
//! instead. It is the only error shown for it, because the block itself and the trait are emitted nevertheless.
//!
//! Left out: when tasks run, which `novella-periodic-task` decides.
//!
//! # Layout
//!
//! From the bottom up. A module imports only modules above it in this table.
//!
//! | module | what it is |
//! |---|---|
//! | `parse` | reads the arguments of a mark, and checks the method below it |
//! | `expand` | writes the block and the trait's implementation |

mod expand;
mod parse;

use proc_macro::TokenStream;
use proc_macro2::Span;

/// Registers the marked methods of an inherent `impl` block. See the documentation of `novella-periodic-task`.
#[proc_macro_attribute]
pub fn periodic_tasks(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand::periodic_tasks(arguments.into(), item.into()).into()
}

/// Marks one method of a `#[periodic_tasks]` block. See the documentation of `novella-periodic-task`.
///
/// The block's attribute takes the mark off, so this runs only for a mark in a wrong place.
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
