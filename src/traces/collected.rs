//! Traces that stay here, for tests.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, Span, SpanData, SpanProcessor};

use super::Traces;

/// Spans that have ended.
#[derive(Debug, Clone, Default)]
pub struct Collected {
    spans: Arc<Mutex<Vec<SpanData>>>,
    /// Spans end here only while their provider lives.
    _provider: Option<SdkTracerProvider>,
}

impl Traces {
    /// Traces every request.
    pub fn collected() -> (Traces, Collected) {
        let collected = Collected::default();
        let provider = SdkTracerProvider::builder().with_span_processor(collected.clone()).build();
        (Traces::to(&provider), Collected { _provider: Some(provider), ..collected })
    }
}

impl Collected {
    /// The names of the spans above the only one of this name, the nearest first. `None` if there is none that has ended, or several.
    pub fn above(&self, name: &str) -> Option<Vec<String>> {
        let spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = spans.iter().filter(|span| span.name == name);
        let mut span = found.next().filter(|_| found.next().is_none())?;
        let mut above = Vec::new();
        let is_above = |other: &SpanData, span: &SpanData| {
            other.span_context.span_id() == span.parent_span_id && other.span_context.trace_id() == span.span_context.trace_id()
        };
        while let Some(parent) = spans.iter().find(|other| is_above(other, span)) {
            above.push(parent.name.to_string());
            span = parent;
        }
        Some(above)
    }
}

impl SpanProcessor for Collected {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}
