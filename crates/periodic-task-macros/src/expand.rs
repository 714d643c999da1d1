//! Turns a marked `impl` block into itself plus `impl PeriodicTasks`.
//!
//! What always holds: paths are absolute (`::novella_periodic_task`, `::core`, `::std`), so the caller needs no imports.
//! An argument's expression is emitted with its own spans, so that a compiler error about its type points into the
//! attribute.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Attribute, Error, Expr, Ident, ImplItem, ImplItemFn, ItemImpl, Result};

use crate::parse::{Spacing, TaskArguments, check_method};

const ON_IMPL: &str = "`#[periodic_tasks]` goes on the manager's own `impl` block\n\
                       write `#[periodic_tasks] impl Manager { .. }`";

pub fn periodic_tasks(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let Ok(mut block) = syn::parse2::<ItemImpl>(item.clone()) else {
        let error = Error::new(Span::call_site(), ON_IMPL).into_compile_error();
        return quote!(#error #item);
    };
    let mut errors = Vec::new();
    if !arguments.is_empty() {
        let message = "`#[periodic_tasks]` takes no arguments: write them on a method, \
                       `#[periodic_task(spacing = \"30s\")]`";
        errors.push(Error::new_spanned(arguments, message));
    }
    let tasks = take_tasks(&mut block, &mut errors);
    if tasks.is_empty() && errors.is_empty() {
        let message =
            "no method of this block is marked: write `#[periodic_task]` above `async fn name(&self)`";
        errors.push(Error::new(Span::call_site(), message));
    }
    let errors = errors.into_iter().map(Error::into_compile_error);
    if let Some((_, path, _)) = &block.trait_ {
        let error = Error::new_spanned(path, ON_IMPL).into_compile_error();
        return quote!(#(#errors)* #error #block);
    }
    let manager = &block.self_ty;
    let (generics, _, bounds) = block.generics.split_for_impl();
    quote! {
        #block
        #(#errors)*

        #[automatically_derived]
        impl #generics ::novella_periodic_task::PeriodicTasks for #manager #bounds {
            fn periodic_tasks(&self) -> ::std::vec::Vec<::novella_periodic_task::PeriodicTask<Self>> {
                ::std::vec::Vec::from([#(#tasks),*])
            }
        }
    }
}

/// Takes the marks off the block's methods and makes a `PeriodicTask` expression of each. Mistakes go to `errors`.
fn take_tasks(block: &mut ItemImpl, errors: &mut Vec<Error>) -> Vec<TokenStream> {
    let mut tasks = Vec::new();
    for item in &mut block.items {
        let ImplItem::Fn(method) = item else { continue };
        let (marks, others) = std::mem::take(&mut method.attrs).into_iter().partition(is_mark);
        method.attrs = others;
        match task_of(method, marks) {
            Ok(Some(task)) => tasks.push(task),
            Ok(None) => {}
            Err(error) => errors.push(error),
        }
    }
    tasks
}

/// Whether an attribute is the mark. It may be written with a path, of which only the last segment counts.
fn is_mark(attribute: &Attribute) -> bool {
    attribute.path().segments.last().is_some_and(|segment| segment.ident == "periodic_task")
}

fn task_of(method: &ImplItemFn, marks: Vec<Attribute>) -> Result<Option<TokenStream>> {
    let mark = match &marks[..] {
        [] => return Ok(None),
        [mark] => mark,
        [_, second, ..] => {
            let message = "the method is marked twice: write one `#[periodic_task(..)]`";
            return Err(Error::new_spanned(second, message));
        }
    };
    let arguments = TaskArguments::from_attribute(mark)?;
    check_method(method)?;
    Ok(Some(task_expression(method, &arguments)))
}

fn task_expression(method: &ImplItemFn, arguments: &TaskArguments) -> TokenStream {
    let ident = &method.sig.ident;
    let name = ident.unraw().to_string();
    // If the method is compiled out, so is its task.
    let cfgs = method.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg"));
    let schedule = schedule(arguments);
    let run_immediately = switch(&arguments.run_immediately, false);
    let enabled = switch(&arguments.enabled, true);
    // A compiler error about a wrong return type is to point at that type.
    let output = match &method.sig.output {
        syn::ReturnType::Default => ident.span(),
        syn::ReturnType::Type(_, output) => output.span(),
    };
    let call = quote_spanned!(output=> ::novella_periodic_task::TaskOutput::into_result(Self::#ident(&manager).await));
    quote! {
        #(#cfgs)*
        ::novella_periodic_task::PeriodicTask {
            name: #name,
            schedule: #schedule,
            run_immediately: #run_immediately,
            enabled: #enabled,
            run: |manager: ::std::sync::Arc<Self>| ::std::boxed::Box::pin(async move { #call }),
        }
    }
}

fn schedule(arguments: &TaskArguments) -> TokenStream {
    let schedule = quote!(::novella_periodic_task::Schedule);
    match (&arguments.spacing, &arguments.ticks_between_runs) {
        (Some((_, Spacing::Literal(duration))), _) => {
            let (seconds, nanoseconds) = (duration.as_secs(), duration.subsec_nanos());
            quote!(#schedule::Spacing(::core::time::Duration::new(#seconds, #nanoseconds)))
        }
        (Some((name, Spacing::Expression(value))), _) => {
            let value = typed(name, value, quote_spanned!(name.span()=> ::core::time::Duration));
            quote!(#schedule::Spacing(#value))
        }
        (None, Some((name, value))) => {
            let value = typed(name, value, quote_spanned!(name.span()=> u32));
            quote!(#schedule::TicksBetweenRuns(#value))
        }
        (None, None) => quote!(#schedule::EveryTick),
    }
}

fn switch(argument: &Option<(Ident, Expr)>, default: bool) -> TokenStream {
    match argument {
        Some((name, value)) => typed(name, value, quote_spanned!(name.span()=> bool)),
        None => default.to_token_stream(),
    }
}

/// The expression as a value of `of_type`, which has the span of the argument's name. A mismatch is then shown at the
/// expression, and its cause at the name.
fn typed(name: &Ident, value: &Expr, of_type: TokenStream) -> TokenStream {
    let variable = Ident::new("value", name.span().resolved_at(Span::mixed_site()));
    quote!({ let #variable: #of_type = #value; #variable })
}
