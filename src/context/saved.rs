//! What was in force at one moment, to be entered at another.

use std::fmt;

use tracing::Span;

use super::Context;
use super::current::with_current;
use super::local::{Captured, capture_all, enter_all};

/// What was in force where it was saved: the [`Context`] (or that there was none), the span, the registered locals.
///
/// Two words. It has memory of its own only for [registered](super::register) locals, and for a span that is not the
/// context's own. Get one from [`Context::save`].
///
/// # What happens on drop
///
/// Nothing but that its share of the context is given back.
pub struct Saved {
    context: Option<Context>,
    extras: Option<Box<Extras>>,
}

/// What most requests have not, boxed so that they do not pay for it.
struct Extras {
    span: Option<Span>,
    locals: Vec<Box<dyn Captured>>,
}

// ===== impl Saved =====

impl Saved {
    pub(super) fn here(context: Option<Context>) -> Self {
        let span = Span::current();
        let own = context.as_ref().and_then(Context::span_ref).map(Span::id);
        let span = (!span.is_none() && Some(span.id()) != own).then_some(span);
        Self::new(context, span)
    }

    /// As a request begins: its own span, and whatever the locals are on a thread where no request is in hand.
    pub(super) fn at_arrival(context: Context) -> Self {
        Self::new(Some(context), None)
    }

    fn new(context: Option<Context>, span: Option<Span>) -> Self {
        let locals = capture_all();
        let extras = (span.is_some() || !locals.is_empty()).then(|| Box::new(Extras { span, locals }));
        Self { context, extras }
    }

    /// The context that it holds; `None` when none was in force.
    pub fn context(&self) -> Option<&Context> {
        self.context.as_ref()
    }

    /// Runs `inside` as if it were where this was saved. What is in force here is back when it returns, also when it
    /// panics. Calls may be nested, with any contexts.
    ///
    /// Registered locals are cloned for each call: what `inside` sets in them is gone afterwards.
    ///
    /// # Panics
    ///
    /// When `inside` does, and when a registered [`Local`](super::Local) does not run what it is given.
    pub fn enter<R>(&self, inside: impl FnOnce() -> R) -> R {
        match &self.extras {
            // A clone would look at what is already known: without locals there is nothing that `inside` could change.
            Some(extras) if !extras.locals.is_empty() => self.clone().enter_mut(inside),
            _ => in_span(&mut self.context.clone(), self.span(), inside),
        }
    }

    /// [`enter`](Self::enter), with what `inside` sets in registered locals kept for the next time.
    pub(super) fn enter_mut<R>(&mut self, inside: impl FnOnce() -> R) -> R {
        let Self { context, extras } = self;
        let Some(extras) = extras else {
            return in_span(context, None, inside);
        };
        let Extras { span, locals } = &mut **extras;
        let mut inside = Some(inside);
        let mut result = None;
        enter_all(locals, &mut || {
            if let Some(inside) = inside.take() {
                result = Some(in_span(context, span.as_ref(), inside));
            }
        });
        result.expect("every registered local runs what it is given")
    }

    /// A closure that runs within this, once, anywhere. See [`Context::bind`].
    pub fn bind<R>(self, closure: impl FnOnce() -> R) -> impl FnOnce() -> R {
        move || self.enter(closure)
    }

    /// [`bind`](Self::bind) for a closure that takes an argument and may be called more than once.
    pub fn bind_with<A, R>(self, mut closure: impl FnMut(A) -> R) -> impl FnMut(A) -> R {
        move |argument| self.enter(|| closure(argument))
    }

    fn span(&self) -> Option<&Span> {
        self.extras.as_ref()?.span.as_ref()
    }
}

impl Clone for Saved {
    fn clone(&self) -> Self {
        let extras = self.extras.as_ref().map(|extras| {
            let locals = extras.locals.iter().map(|local| local.clone_box()).collect();
            Box::new(Extras { span: extras.span.clone(), locals })
        });
        Self { context: self.context.clone(), extras }
    }
}

impl fmt::Debug for Saved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Saved").field("context", &self.context).finish_non_exhaustive()
    }
}

/// Has the context in force, and `span` or else the context's own span entered.
fn in_span<R>(context: &mut Option<Context>, span: Option<&Span>, inside: impl FnOnce() -> R) -> R {
    // The span that is entered needs a holder: the context itself is somewhere else meanwhile.
    let holder = match span {
        Some(_) => None,
        None => context.as_ref().filter(|context| context.span_ref().is_some()).cloned(),
    };
    let span = span.or_else(|| holder.as_ref().and_then(Context::span_ref));
    with_current(context, || match span {
        Some(span) => span.in_scope(inside),
        None => inside(),
    })
}
