//! From spans that have ended to the collector.

use std::time::Duration;

use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, Span, SpanData, SpanExporter as _, SpanProcessor};
use tokio::sync::mpsc;

use super::Traces;
use crate::metrics::TraceMetrics;
use crate::tasks::Tasks;

/// Spans that wait for the collector, at most.
const QUEUE: usize = 8_192;
/// Spans in one request.
const AT_ONCE: usize = 512;
/// How long the first span of a request waits for others.
const GATHER: Duration = Duration::from_millis(200);
/// A collector that takes longer does not get them.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which requests are traced, and by whom.
#[derive(Debug, Clone)]
pub struct TraceConfig {
    /// The share of requests that are traced, from 0 to 1.
    pub sample_ratio: f64,
    pub node: i32,
    pub version: &'static str,
}

/// Where traces go.
#[derive(Debug)]
pub struct Collector(SpanExporter);

impl Collector {
    /// `endpoint`: `http://HOST:PORT`, to which OTLP's path `/v1/traces` is added, or a URL with a path of its own. Whether somebody is there shows only
    /// when spans come.
    ///
    /// # Errors
    /// [`TracesError`] if it is no URL.
    pub fn at(endpoint: &str) -> Result<Collector, TracesError> {
        let refused = |error: &dyn std::fmt::Display| TracesError { endpoint: endpoint.to_owned(), error: error.to_string() };
        let exporter = SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary);
        let exporter = exporter.with_endpoint(url(endpoint)).with_timeout(PATIENCE).build();
        exporter.map(Collector).map_err(|error| refused(&error))
    }
}

/// The exporter refuses its settings.
#[derive(Debug, thiserror::Error)]
#[error("YAKS_OTEL_TRACES_ENDPOINT={endpoint:?} cannot be used: {error}")]
pub struct TracesError {
    endpoint: String,
    error: String,
}

impl Traces {
    /// Exports to the collector until `tasks` are stopped; what has ended by then still leaves.
    #[must_use]
    pub fn start(collector: Collector, config: &TraceConfig, metrics: TraceMetrics, tasks: &Tasks) -> Traces {
        let Collector(mut exporter) = collector;
        let resource = Resource::builder_empty().with_service_name("yaks").with_attributes([
            KeyValue::new("service.version", config.version),
            KeyValue::new("service.instance.id", config.node.to_string()),
        ]);
        let resource = resource.build();
        exporter.set_resource(&resource);
        let (sender, queue) = mpsc::channel(QUEUE);
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.sample_ratio))))
            .with_span_processor(Handover { sender, metrics: metrics.clone() })
            .build();
        let outbox = Outbox { exporter, queue, metrics, failing: false, provider: provider.clone() };
        tasks.spawn("traces", outbox.run(tasks.clone()));
        Traces::to(&provider)
    }
}

/// OTLP has a path of its own, which most people leave out.
fn url(endpoint: &str) -> String {
    let place = endpoint.split_once("://").map_or(endpoint, |(_, place)| place);
    let has_path = place.trim_end_matches('/').contains('/');
    if has_path { endpoint.to_owned() } else { format!("{}/v1/traces", endpoint.trim_end_matches('/')) }
}

/// Puts ended spans into the queue; called wherever a span ends, so it never waits.
#[derive(Debug)]
struct Handover {
    sender: mpsc::Sender<SpanData>,
    metrics: TraceMetrics,
}

impl SpanProcessor for Handover {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.sender.try_send(span).is_err() {
            self.metrics.dropped(1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Sends what is in the queue.
struct Outbox {
    exporter: SpanExporter,
    queue: mpsc::Receiver<SpanData>,
    metrics: TraceMetrics,
    failing: bool,
    /// Spans end into the queue only while their provider lives.
    provider: SdkTracerProvider,
}

impl Outbox {
    async fn run(mut self, tasks: Tasks) {
        let stop = tasks.stop_token();
        while let Some(Some(first)) = stop.run_until_cancelled(self.queue.recv()).await {
            if self.queue.len() < AT_ONCE {
                stop.run_until_cancelled(tokio::time::sleep(GATHER)).await;
            }
            self.send(first).await;
        }
        while let Ok(first) = self.queue.try_recv() {
            self.send(first).await;
            if self.failing {
                break;
            }
        }
        // Nothing is pushed by it, so there is nothing that could be lost.
        let _ = self.provider.shutdown();
    }

    async fn send(&mut self, first: SpanData) {
        let mut spans = vec![first];
        while spans.len() < AT_ONCE
            && let Ok(next) = self.queue.try_recv()
        {
            spans.push(next);
        }
        let count = spans.len();
        match self.exporter.export(spans).await {
            Ok(()) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the collector takes traces again");
                }
                self.metrics.exported(count);
            }
            Err(error) => {
                // An outage is one line when it begins, not one a request.
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(%error, "the collector does not take traces; they are dropped until it does");
                }
                self.metrics.dropped(count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_without_a_path_gets_that_of_otlp() {
        for (endpoint, expected) in [
            ("http://collector:4318", "http://collector:4318/v1/traces"),
            ("http://collector:4318/", "http://collector:4318/v1/traces"),
            ("http://collector:4318/v1/traces", "http://collector:4318/v1/traces"),
            ("http://gateway/otlp/here", "http://gateway/otlp/here"),
        ] {
            assert_eq!(url(endpoint), expected);
        }
    }
}
