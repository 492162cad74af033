//! What traces cost an agent that sends none: nothing.

use yaks::traces::{Traces, Waits};

/// All that a produce does for its trace, from the request to the round.
fn a_produce(traces: &Traces) -> bool {
    let request = traces.request("Produce", 9);
    let entered = futures_util::FutureExt::now_or_never(request.scope(async { traces.current() })).unwrap_or_default();
    let mut waits = Waits::default();
    waits.join(&entered);
    let flush = waits.sealed();
    flush.note("yaks.bytes", 1);
    let (put, commit) = (flush.child("put"), flush.child("commit"));
    put.ended(&Ok::<(), std::fmt::Error>(()));
    commit.fail(&"in vain");
    let places: Vec<_> = flush.child("materialize").place().into_iter().collect();
    traces.round(&places, std::time::Duration::ZERO, 1);
    flush.is_live()
}

#[test]
fn traces_that_go_nowhere_allocate_nothing() {
    let traces = Traces::off();
    let cost = allocation_counter::measure(|| {
        for _ in 0..1_000 {
            assert!(!a_produce(&traces));
        }
    });
    assert_eq!(cost.count_total, 0, "{cost:?}");
    // The counter counts.
    assert_eq!(allocation_counter::measure(|| drop(std::hint::black_box(vec![1u8]))).count_total, 1);
}
