//! Reads the arguments of `#[periodic_task(..)]` and checks the method below it.
//!
//! What always holds: every error has the span of the wrong tokens, and says what to write instead. Left out: the types of
//! expressions, which the compiler checks.

use std::time::Duration;

use proc_macro2::Span;
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{Attribute, Error, Expr, ExprLit, FnArg, Ident, ImplItemFn, Lit, Meta, Result, Token, UnOp};

const NEVER: &str = "to switch a task off write `enabled = false`";

/// The arguments of one `#[periodic_task(..)]`, each with its name. An absent one is `None`.
#[derive(Default)]
pub struct TaskArguments {
    pub spacing: Option<(Ident, Spacing)>,
    pub ticks_between_runs: Option<(Ident, Expr)>,
    pub run_immediately: Option<(Ident, Expr)>,
    pub enabled: Option<(Ident, Expr)>,
}

/// A spacing written as a literal, or an expression that is evaluated when the runner starts.
pub enum Spacing {
    Literal(Duration),
    Expression(Expr),
}

impl TaskArguments {
    pub fn from_attribute(attribute: &Attribute) -> Result<Self> {
        match &attribute.meta {
            Meta::Path(_) => Ok(Self::default()),
            Meta::List(list) => list.parse_args(),
            Meta::NameValue(_) => Err(Error::new_spanned(
                attribute,
                "arguments must be in parentheses: write `#[periodic_task(spacing = \"30s\")]`",
            )),
        }
    }
}

impl Parse for TaskArguments {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut arguments = Self::default();
        while !input.is_empty() {
            let name: Ident = input.parse().map_err(|error| {
                Error::new(error.span(), "an argument has a name: write `spacing = \"30s\"`")
            })?;
            match name.to_string().as_str() {
                "spacing" => {
                    let spacing = spacing(value(input, &name, "\"30s\"")?)?;
                    set(&mut arguments.spacing, name, spacing)?;
                }
                "ticks_between_runs" => {
                    let ticks = ticks(value(input, &name, "2")?)?;
                    set(&mut arguments.ticks_between_runs, name, ticks)?;
                }
                "run_immediately" => {
                    let immediately = if input.peek(Token![=]) {
                        switch(value(input, &name, "true")?, &name)?
                    } else {
                        syn::parse_quote_spanned!(name.span()=> true)
                    };
                    set(&mut arguments.run_immediately, name, immediately)?;
                }
                "enabled" => {
                    let enabled = switch(value(input, &name, "self.flag")?, &name)?;
                    set(&mut arguments.enabled, name, enabled)?;
                }
                other => {
                    let message = format!(
                        "unknown argument `{other}`; `#[periodic_task]` knows `spacing = \"30s\"`, \
                         `ticks_between_runs = 2`, `run_immediately` and `enabled = self.flag`"
                    );
                    return Err(Error::new(name.span(), message));
                }
            }
            if !input.is_empty() {
                input.parse::<Token![,]>().map_err(|error| {
                    let message = "a comma is missing: write `run_immediately, spacing = \"30s\"`";
                    Error::new(error.span(), message)
                })?;
            }
        }
        if let (Some(_), Some((ticks, _))) = (&arguments.spacing, &arguments.ticks_between_runs) {
            let message =
                "`spacing` and `ticks_between_runs` both set how often the task runs: write only one of them";
            return Err(Error::new(ticks.span(), message));
        }
        Ok(arguments)
    }
}

/// The expression after `=`.
fn value(input: ParseStream<'_>, name: &Ident, example: &str) -> Result<Expr> {
    let equals: Option<Token![=]> = input.parse()?;
    if equals.is_none() || input.is_empty() || input.peek(Token![,]) {
        return Err(Error::new(name.span(), format!("`{name}` needs a value: write `{name} = {example}`")));
    }
    input.parse()
}

fn set<T>(slot: &mut Option<(Ident, T)>, name: Ident, value: T) -> Result<()> {
    if slot.is_some() {
        return Err(Error::new(name.span(), format!("`{name}` is given twice: write it once")));
    }
    *slot = Some((name, value));
    Ok(())
}

fn spacing(value: Expr) -> Result<Spacing> {
    let text = match literal(&value) {
        Some(Lit::Str(text)) => text,
        Some(other) => {
            let message = "a spacing is a duration in quotes or an expression of type `Duration`: \
                           write `spacing = \"30s\"` or `spacing = self.interval`";
            return Err(Error::new(other.span(), message));
        }
        None if is_negated_literal(&value) => {
            let message =
                format!("a spacing is a duration with its unit: write `spacing = \"30s\"`; {NEVER}");
            return Err(Error::new_spanned(value, message));
        }
        None => return Ok(Spacing::Expression(value)),
    };
    if text.value().trim_start().starts_with('-') {
        return Err(Error::new(text.span(), format!("a spacing cannot be negative; {NEVER}")));
    }
    let duration = humantime::parse_duration(&text.value()).map_err(|error| {
        let message =
            format!("not a duration: {error}; write for example `\"500ms\"`, `\"30s\"` or `\"1m 30s\"`");
        Error::new(text.span(), message)
    })?;
    if duration.is_zero() {
        let message = format!("a spacing of zero means every tick: leave `spacing` out for that; {NEVER}");
        return Err(Error::new(text.span(), message));
    }
    Ok(Spacing::Literal(duration))
}

fn ticks(value: Expr) -> Result<Expr> {
    let wrong = match literal(&value) {
        Some(Lit::Int(ticks)) => ticks.base10_parse::<u32>().is_err(),
        Some(_) => true,
        None => is_negated_literal(&value),
    };
    if wrong {
        let message = format!(
            "the ticks left out between two runs are a whole number from 0 to {}: write `ticks_between_runs = 2`; \
             {NEVER}",
            u32::MAX
        );
        return Err(Error::new_spanned(value, message));
    }
    Ok(value)
}

fn switch(value: Expr, name: &Ident) -> Result<Expr> {
    match literal(&value) {
        Some(Lit::Bool(_)) | None => Ok(value),
        Some(other) => {
            let message = format!("`{name}` is a bool: write `{name} = true` or `{name} = self.flag`");
            Err(Error::new(other.span(), message))
        }
    }
}

fn literal(value: &Expr) -> Option<&Lit> {
    match value {
        Expr::Lit(ExprLit { lit, .. }) => Some(lit),
        _ => None,
    }
}

fn is_negated_literal(value: &Expr) -> bool {
    matches!(value, Expr::Unary(unary) if matches!(unary.op, UnOp::Neg(_)) && literal(&unary.expr).is_some())
}

/// Checks that the method is `async fn name(&self)`, because the runner has no other arguments to give.
pub fn check_method(method: &ImplItemFn) -> Result<()> {
    let signature = &method.sig;
    let name = &signature.ident;
    let refuse =
        |span: Span, why: &str| Err(Error::new(span, format!("{why}: write `async fn {name}(&self)`")));
    if signature.asyncness.is_none() {
        return refuse(signature.fn_token.span, "a periodic task shares its thread with others");
    }
    if !signature.generics.params.is_empty() {
        return refuse(signature.generics.params.span(), "a periodic task has no generic parameters");
    }
    match signature.inputs.first() {
        Some(FnArg::Receiver(receiver))
            if receiver.reference.is_some()
                && receiver.mutability.is_none()
                && receiver.colon_token.is_none() => {}
        Some(FnArg::Receiver(receiver)) => {
            return refuse(receiver.span(), "tasks of one manager run side by side");
        }
        _ => return refuse(name.span(), "a periodic task is a method of its manager"),
    }
    match signature.inputs.iter().nth(1) {
        Some(extra) => {
            refuse(extra.span(), "a periodic task has no arguments, it looks at the manager's state")
        }
        None => Ok(()),
    }
}
