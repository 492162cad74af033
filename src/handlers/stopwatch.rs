//! How long requests take.

use tokio::time::Instant;

use crate::metrics::RequestMetrics;
use crate::protocol::RequestHeader;

/// Measures one request from its dispatch to its answer.
pub(super) struct Stopwatch {
    pub(super) header: RequestHeader,
    metrics: RequestMetrics,
    began: Instant,
}

impl Stopwatch {
    pub(super) fn start(metrics: &RequestMetrics, header: &RequestHeader) -> Self {
        Stopwatch { header: header.clone(), metrics: metrics.clone(), began: Instant::now() }
    }

    pub(super) fn answered(&self, error_code: i16) {
        self.metrics.answered(self.header.api.name, self.header.version, error_code, self.began.elapsed());
    }
}
