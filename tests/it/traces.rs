//! Traces, as a collector sees them.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Bytes;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::sync::watch;

use super::support::{Broker, LONG, Services, blocking, create_topic, producer, send};

/// An OTLP collector over HTTP that keeps what it gets.
struct Collector {
    endpoint: String,
    spans: watch::Receiver<Vec<(Resource, Span)>>,
}

impl Collector {
    async fn start() -> Collector {
        let (got, spans) = watch::channel(Vec::new());
        let got = Arc::new(got);
        let take = move |body: Bytes| {
            let got = Arc::clone(&got);
            async move {
                let request = ExportTraceServiceRequest::decode(body).expect("an OTLP request");
                got.send_modify(|spans| {
                    for of_resource in request.resource_spans {
                        let resource = of_resource.resource.unwrap_or_default();
                        let new = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
                        spans.extend(new.map(|span| (resource.clone(), span)));
                    }
                });
            }
        };
        let router = axum::Router::new().route("/v1/traces", post(take));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Collector { endpoint, spans }
    }

    /// Waits until what has come is enough.
    async fn until(&mut self, enough: impl Fn(&[(Resource, Span)]) -> bool) -> Vec<(Resource, Span)> {
        let waited =
            tokio::time::timeout(LONG, self.spans.wait_for(|spans| enough(spans))).await.map(|spans| spans.expect("serving").clone());
        waited.unwrap_or_else(|_| {
            let names: Vec<_> = self.spans.borrow().iter().map(|(_, span)| span.name.clone()).collect();
            panic!("only these spans came: {names:?}")
        })
    }
}

fn named<'a>(spans: &'a [(Resource, Span)], name: &str) -> Vec<&'a Span> {
    spans.iter().map(|(_, span)| span).filter(|span| span.name == name).collect()
}

fn attribute(resource: &Resource, key: &str) -> String {
    let found = resource.attributes.iter().find(|attribute| attribute.key == key).and_then(|a| a.value.clone());
    format!("{:?}", found.and_then(|value| value.value))
}

const PARTS: [&str; 6] = ["wait", "flush", "put", "commit", "materialize", "round"];

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_follows_a_produce_from_its_request_to_its_offset() {
    let (services, mut collector) = (Services::start().await, Collector::start().await);
    // No round but the one that the commit asks for.
    let settings = [("YAKS_OTEL_TRACES_ENDPOINT", collector.endpoint.as_str()), ("YAKS_MATERIALIZE_INTERVAL_MS", "60000")];
    let broker = Broker::agent(&services, &settings);
    create_topic(&broker.address, "t", 1).await;
    assert_eq!(send(&producer(&broker.address, &[]), "t", 0, "hello").await, (0, 0));
    let whole =
        |spans: &[(Resource, Span)]| PARTS.iter().all(|part| !named(spans, part).is_empty()) && !named(spans, "request Produce").is_empty();
    let spans = collector.until(whole).await;
    let one = |name: &str| match named(&spans, name)[..] {
        [one] => one,
        ref several => panic!("{} spans {name}", several.len()),
    };
    let (request, flush, materialize) = (one("request Produce"), one("flush"), one("materialize"));
    let parents = [request, request, flush, flush, flush, materialize];
    for (part, parent) in PARTS.iter().zip(parents) {
        let part = one(part);
        assert_eq!(
            (&part.trace_id, &part.parent_span_id),
            (&request.trace_id, &parent.span_id),
            "{} is not below {}",
            part.name,
            parent.name
        );
        assert!(part.start_time_unix_nano <= part.end_time_unix_nano && part.start_time_unix_nano >= request.start_time_unix_nano);
    }
    assert!(request.parent_span_id.is_empty());
    assert!(one("put").end_time_unix_nano <= one("commit").start_time_unix_nano, "data before metadata");
    assert!(materialize.end_time_unix_nano <= request.end_time_unix_nano, "the answer waits for the verdict");
    let links: Vec<_> = one("wait").links.iter().map(|link| &link.span_id).collect();
    assert_eq!(links, [&flush.span_id]);
    let resource = &spans[0].0;
    assert!(attribute(resource, "service.name").contains("yaks") && attribute(resource, "service.instance.id").contains('0'));
    assert!(attribute(resource, "service.version").contains(env!("CARGO_PKG_VERSION")));
}

/// An object that carries many requests is found from each of them, and each from it.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_share_an_object_are_linked_with_it() {
    const SENDERS: usize = 5;
    let (services, mut collector) = (Services::start().await, Collector::start().await);
    let settings = [("YAKS_OTEL_TRACES_ENDPOINT", collector.endpoint.as_str()), ("YAKS_FLUSH_INTERVAL_MS", "400")];
    let broker = Broker::agent(&services, &settings);
    create_topic(&broker.address, "t", SENDERS as i32).await;
    let sending: Vec<_> = (0..SENDERS as i32)
        .map(|partition| {
            let producer = producer(&broker.address, &[]);
            tokio::spawn(async move { send(&producer, "t", partition, "hello").await })
        })
        .collect();
    for sent in sending {
        sent.await.expect("sent");
    }
    let spans = collector.until(|spans| named(spans, "request Produce").len() == SENDERS && named(spans, "wait").len() == SENDERS).await;
    let flushes = named(&spans, "flush");
    assert!(flushes.len() < SENDERS, "{} requests came in {} objects", SENDERS, flushes.len());
    let requests: BTreeSet<_> = named(&spans, "request Produce").iter().map(|span| span.span_id.clone()).collect();
    let carried = flushes.iter().flat_map(|flush| flush.links.iter().map(|link| &link.span_id).chain([&flush.parent_span_id]));
    assert_eq!(carried.cloned().collect::<BTreeSet<_>>(), requests);
    let flushes: BTreeSet<_> = flushes.iter().map(|flush| &flush.span_id).collect();
    for wait in named(&spans, "wait") {
        assert!(wait.links.len() == 1 && flushes.contains(&wait.links[0].span_id), "{wait:?}");
    }
}

/// A collector that is not there costs nothing but the traces.
#[test]
fn a_collector_that_is_not_there_stops_nobody() {
    let dir = tempfile::tempdir().expect("a directory");
    let settings = [("YAKS_OTEL_TRACES_ENDPOINT", "http://127.0.0.1:9"), ("YAKS_METRICS_PORT", "0")];
    let mut broker = Broker::dev(dir.path(), &settings);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        create_topic(&broker.address, "t", 1).await;
        assert_eq!(send(&producer(&broker.address, &[]), "t", 0, "hello").await, (0, 0));
        let broker = broker.admin_address();
        let dropped = |text: &str| text.lines().any(|line| line.starts_with("yaks_traces_dropped_spans_total") && !line.ends_with(" 0"));
        blocking(move || super::support::http::until(&broker, "/metrics", |answer| dropped(&answer.body))).await;
    });
    assert!(broker.terminate().success());
    let log = broker.log();
    assert_eq!(log.matches("the collector does not take traces").count(), 1, "{log}");
}

#[test]
fn a_collector_that_cannot_be_is_a_clear_error() {
    for (name, value) in [
        ("YAKS_OTEL_TRACES_ENDPOINT", "collector:4317"),
        ("YAKS_OTEL_TRACES_ENDPOINT", "https://collector"),
        ("YAKS_OTEL_TRACES_ENDPOINT", "http://not a host"),
        ("YAKS_OTEL_TRACES_SAMPLE_RATIO", "2"),
        ("YAKS_OTEL_TRACES_SAMPLE_RATIO", "NaN"),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let settings = [(name.to_owned(), value.to_owned())];
        let output = super::support::yaks(0, &settings).arg("dev").arg("--data-dir").arg(dir.path()).output().expect("the binary");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(name) && error.contains(value) && error.lines().count() == 1, "{error}");
    }
}
