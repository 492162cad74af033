//! Services fail, agents are killed and stopped; nothing acknowledged is lost, and nobody needs a restart.

use std::time::Duration;

use rdkafka::producer::FutureProducer;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::support::s3::Fault;
use super::support::{Broker, Services, assert_exactly, blocking, create_topic, producer, read, send, watermarks};

const PATIENT: [(&str, &str); 4] =
    [("linger.ms", "1"), ("enable.idempotence", "true"), ("message.timeout.ms", "60000"), ("reconnect.backoff.max.ms", "500")];

/// Sends numbered records one after the other for as long as `time`; each must be acknowledged.
fn keep_sending(producer: &FutureProducer, lane: usize, time: Duration) -> JoinHandle<Vec<String>> {
    let producer = producer.clone();
    tokio::spawn(async move {
        let end = Instant::now() + time;
        let mut sent = Vec::new();
        while Instant::now() < end {
            let value = format!("{lane}/{}", sent.len());
            send(&producer, "t", 0, &value).await;
            sent.push(value);
            sleep(Duration::from_millis(2)).await;
        }
        sent
    })
}

async fn sent_by(lanes: Vec<JoinHandle<Vec<String>>>) -> Vec<String> {
    let mut all = Vec::new();
    for lane in lanes {
        all.extend(lane.await.expect("every record acknowledged"));
    }
    all
}

/// Everything in the log exactly once, and each lane's records in their order.
async fn judge(address: String, expected: Vec<String>) {
    let records = blocking(move || {
        let (_, end) = watermarks(&address, "t", 0);
        read(&address, "t", 0, 0, usize::try_from(end).expect("an end"))
    })
    .await;
    assert_eq!(records.iter().map(|(o, _)| *o).collect::<Vec<_>>(), (0..records.len() as i64).collect::<Vec<_>>());
    assert_exactly(&records, &expected);
    let mut next = std::collections::BTreeMap::new();
    for (_, value) in &records {
        let (lane, number) = value.split_once('/').expect("lane/number");
        let expected: &mut usize = next.entry(lane.to_owned()).or_default();
        assert_eq!(number.parse::<usize>().expect("a number"), *expected, "lane {lane}");
        *expected += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_answers_503_or_nothing_is_survived() {
    let services = Services::start().await;
    let broker = Broker::agent(&services, &[]);
    create_topic(&broker.address, "t", 1).await;
    let producer = producer(&broker.address, &PATIENT);
    let lanes = (0..3).map(|lane| keep_sending(&producer, lane, Duration::from_secs(8))).collect();
    sleep(Duration::from_secs(1)).await;
    services.s3.faults.always(Fault::SlowDown);
    sleep(Duration::from_secs(3)).await;
    services.s3.faults.always(Fault::Hang);
    sleep(Duration::from_secs(2)).await;
    services.s3.faults.heal();
    let sent = sent_by(lanes).await;
    judge(broker.address.clone(), sent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_restarts_is_survived() {
    let services = Services::start().await;
    let broker = Broker::agent(&services, &[]);
    create_topic(&broker.address, "t", 1).await;
    let producer = producer(&broker.address, &PATIENT);
    let lanes = (0..3).map(|lane| keep_sending(&producer, lane, Duration::from_secs(7))).collect();
    for _ in 0..2 {
        sleep(Duration::from_secs(1)).await;
        services.close_database().await;
        sleep(Duration::from_secs(2)).await;
        services.open_database().await;
    }
    let sent = sent_by(lanes).await;
    judge(broker.address.clone(), sent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_loses_nothing_that_was_acknowledged() {
    let services = Services::start().await;
    let (mut a, b) = (Broker::agent(&services, &[]), Broker::agent(&services, &[]));
    create_topic(&a.address, "t", 1).await;
    let both = format!("{},{}", a.address, b.address);
    let producer = producer(&both, &PATIENT);
    let lanes = (0..3).map(|lane| keep_sending(&producer, lane, Duration::from_secs(6))).collect();
    for _ in 0..3 {
        sleep(Duration::from_millis(900)).await;
        a.kill();
        sleep(Duration::from_millis(500)).await;
        a.restart();
    }
    let sent = sent_by(lanes).await;
    judge(b.address.clone(), sent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_good_order_answers_everything_first() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut broker = Broker::dev(dir.path(), &[("YAKS_FLUSH_INTERVAL_MS", "300")]);
    create_topic(&broker.address, "t", 1).await;
    let producer = producer(&broker.address, &PATIENT);
    let lanes = (0..3).map(|lane| keep_sending(&producer, lane, Duration::from_secs(5))).collect();
    for _ in 0..2 {
        sleep(Duration::from_secs(1)).await;
        assert!(broker.terminate().success(), "{}", broker.log());
        broker.restart();
    }
    let sent = sent_by(lanes).await;
    judge(broker.address.clone(), sent).await;
}
