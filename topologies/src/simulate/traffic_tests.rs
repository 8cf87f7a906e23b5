//! The simulator as a producer, on the mock cluster.

use std::collections::BTreeMap;

use kstreams::SystemClock;
use kstreams::kafka::NewTopic;
use kstreams::kafka::librdkafka::{ClientSettings, MockClients, MockCluster};
use kstreams::serdes::SchemaCache;
use test_support::wait_until;

use super::*;
use crate::events;
use crate::topics::TOPICS;

const WITHIN: Duration = Duration::from_secs(30);

fn surroundings() -> Surroundings {
    let cluster = Arc::new(MockCluster::start(1).unwrap());
    let clients = MockClients::new(cluster, ClientSettings::new("unused", "test")).unwrap();
    let new = |topic: &crate::topics::TopicSpec| NewTopic {
        name: topic.name.to_owned(),
        partitions: topic.partitions,
        replication_factor: 1,
        configs: BTreeMap::new(),
    };
    let topics: Vec<NewTopic> = TOPICS.iter().map(new).collect();
    clients.admin().unwrap().create_topics(&topics, WITHIN).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let registry = Arc::new(events::memory_registry().unwrap());
    let serdes = events::serdes(&SchemaCache::new(registry, clock.clone()), &clock).unwrap();
    Surroundings { clients: Arc::new(clients), serdes, clock }
}

#[test]
fn what_was_sent_lies_on_the_topics_and_only_poison_is_unreadable() {
    let surroundings = surroundings();
    let settings = WorldSettings { seed: 5, rate: 1_000.0, poison: 0.1, first_request_id: 1 };
    let (stop, sent) = (AtomicBool::new(false), Sent::default());
    std::thread::scope(|scope| {
        let running = scope.spawn(|| run(&surroundings, settings.clone(), &stop, &sent));
        wait_until("500 sent requests", WITHIN, || sent.requests() >= 500 || running.is_finished());
        stop.store(true, Ordering::SeqCst);
        running.join().unwrap().unwrap();
    });
    let topics = ["request-events".to_owned()];
    let mut reader =
        TopicsReader::new(&*surroundings.clients, &topics, StartOffset::Beginning).unwrap();
    let (mut good, mut bad) = (0, 0);
    wait_until("all requests", WITHIN, || {
        reader.wait(Duration::from_millis(50)).unwrap();
        reader
            .drain(|partition, record| {
                let serde = surroundings.serdes.requests.deserializer();
                let value = record.value.as_ref();
                match serde.deserialize(&partition.topic, &record.headers, value) {
                    Ok(RequestEvent::Created(event)) => {
                        assert_eq!(record.timestamp, event.envelope.timestamp);
                        assert_eq!(record.key.as_deref(), Some(event.region.as_bytes()));
                        good += 1;
                    }
                    Ok(_) => {}
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::BadRecord, "{error:?}");
                        bad += 1;
                    }
                }
                Ok(())
            })
            .unwrap();
        good + bad >= sent.requests()
    });
    assert_eq!(good + bad, sent.requests());
    // One of ten, give or take four standard deviations.
    assert!((20..90).contains(&bad), "{bad} of {}", sent.requests());
}

#[test]
fn a_missing_topic_is_named() {
    let surroundings = surroundings();
    let found = TopicsReader::new(&*surroundings.clients, &["no".to_owned()], StartOffset::End);
    let Err(error) = found else { panic!("reads a topic that is not there") };
    assert!(error.to_string().contains("found no topic no"), "{error}");
}
