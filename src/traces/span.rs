//! Spans by the names of what they measure.

use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{FutureExt as _, Link, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

/// Requests a flush, or objects a round, is linked with at most; OpenTelemetry's own limit.
pub const MOST_LINKS: usize = 128;

/// Begins traces, if there is a collector for them.
#[derive(Debug, Clone, Default)]
pub struct Traces(Option<SdkTracer>);

/// Something that takes time. It ends when its last clone is dropped. Nothing at all if it is not traced.
#[derive(Debug, Clone, Default)]
pub struct Span(Option<Arc<Live>>);

/// Where a span is: what begins below it belongs there, also after it has ended.
#[derive(Debug, Clone)]
pub struct Place(SpanContext);

#[derive(Debug)]
struct Live {
    tracer: SdkTracer,
    context: Context,
}

impl Traces {
    /// Without a collector: no span is ever made.
    #[must_use]
    pub fn off() -> Traces {
        Traces::default()
    }

    pub(super) fn to(provider: &SdkTracerProvider) -> Traces {
        use opentelemetry::trace::TracerProvider as _;
        Traces(Some(provider.tracer("yaks")))
    }

    /// A request has come.
    #[must_use]
    pub fn request(&self, api: &'static str, version: i16) -> Span {
        let Some(tracer) = &self.0 else { return Span::default() };
        let builder = SpanBuilder::from_name(format!("request {api}")).with_kind(SpanKind::Server);
        let builder =
            builder.with_attributes([KeyValue::new("kafka.api_key", api), KeyValue::new("kafka.api_version", i64::from(version))]);
        Span::start(tracer, builder, &Context::new())
    }

    /// The span in whose [`Span::scope`] this is called.
    #[must_use]
    pub fn current(&self) -> Span {
        let Some(tracer) = &self.0 else { return Span::default() };
        let found = Context::map_current(|context| context.span().is_recording().then(|| context.clone()));
        Span(found.map(|context| Arc::new(Live { tracer: tracer.clone(), context })))
    }

    /// A round that took `took` until now has decided the objects whose spans are there.
    pub fn round(&self, objects: &[Place], took: Duration, events: usize) {
        let (Some(tracer), Some((Place(first), others))) = (&self.0, objects.split_first()) else { return };
        #[expect(clippy::disallowed_methods, reason = "a span needs the time of day, and nothing is decided by it")]
        let began = SystemTime::now().checked_sub(took);
        let mut builder = SpanBuilder::from_name("round").with_links(links(others.iter().cloned()));
        builder.start_time = began;
        let builder = builder.with_attributes([KeyValue::new("yaks.events", as_number(events))]);
        drop(Span::start(tracer, builder, &Context::new().with_remote_span_context(first.clone())));
    }
}

impl Span {
    /// Nothing, if the sampler does not want it.
    fn start(tracer: &SdkTracer, builder: SpanBuilder, parent: &Context) -> Span {
        let span = tracer.build_with_context(builder, parent);
        let context = parent.with_span(span);
        if !context.span().is_recording() {
            return Span::default();
        }
        Span(Some(Arc::new(Live { tracer: tracer.clone(), context })))
    }

    fn live(&self) -> Option<&Live> {
        self.0.as_deref()
    }

    /// Where this is, if it is traced.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        self.live().map(|live| Place(live.context.span().span_context().clone()))
    }

    /// Is this traced?
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.0.is_some()
    }

    /// A part of this.
    #[must_use]
    pub fn child(&self, name: &'static str) -> Span {
        let Some(live) = self.live() else { return Span::default() };
        Span::start(&live.tracer, SpanBuilder::from_name(name), &live.context)
    }

    /// Runs `future` so that [`Traces::current`] finds this span in it.
    pub async fn scope<F: Future>(&self, future: F) -> F::Output {
        match self.live() {
            Some(live) => future.with_context(live.context.clone()).await,
            None => future.await,
        }
    }

    /// Says how large it was, and the like.
    pub fn note(&self, what: &'static str, value: u64) {
        if let Some(live) = self.live() {
            live.context.span().set_attribute(KeyValue::new(what, i64::try_from(value).unwrap_or(i64::MAX)));
        }
    }

    /// It did not work.
    pub fn fail(&self, error: &dyn Display) {
        if let Some(live) = self.live() {
            live.context.span().set_status(Status::error(error.to_string()));
        }
    }

    /// It is over, and worked or did not.
    pub fn ended<T, E: Display>(self, result: &Result<T, E>) {
        if let Err(error) = result {
            self.fail(error);
        }
    }
}

/// Traced requests that wait in one buffer.
#[derive(Debug, Default)]
pub struct Waits(Vec<Wait>);

#[derive(Debug)]
struct Wait {
    request: Span,
    wait: Span,
}

impl Waits {
    /// A batch of `request` has been added to the buffer.
    pub fn join(&mut self, request: &Span) {
        let Some(live) = request.live() else { return };
        let same = |wait: &Wait| wait.request.live().is_some_and(|known| std::ptr::eq(known, live));
        if self.0.len() < MOST_LINKS && !self.0.last().is_some_and(same) {
            self.0.push(Wait { request: request.clone(), wait: request.child("wait") });
        }
    }

    /// The buffer is sealed: the waiting is over, and its flush begins.
    #[must_use]
    pub fn sealed(self) -> Span {
        let Some(first) = self.0.first().and_then(|wait| wait.request.live()) else { return Span::default() };
        let others = self.0.iter().skip(1).filter_map(|wait| wait.request.place());
        let builder = SpanBuilder::from_name("flush").with_links(links(others));
        let flush = Span::start(&first.tracer, builder, &first.context);
        if let Some(Place(place)) = flush.place() {
            for live in self.0.iter().filter_map(|wait| wait.wait.live()) {
                live.context.span().add_link(place.clone(), Vec::new());
            }
        }
        flush
    }
}

fn links(places: impl Iterator<Item = Place>) -> Vec<Link> {
    places.take(MOST_LINKS).map(|Place(place)| Link::with_context(place)).collect()
}

fn as_number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
