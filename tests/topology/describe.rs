//! `describe()` against the text that Kafka Streams 4.3.1 prints for the same topology.

use kstreams::{
    Joined, Processor, ProcessorContext, Record, Repartitioned, StreamsBuilder, Topology,
};

fn check(topology: &Topology, expected: &str) {
    let found = topology.describe();
    assert_eq!(found, expected, "found:\n{found}\nwanted:\n{expected}");
}

#[test]
fn count_of_a_grouped_stream() {
    let builder = StreamsBuilder::new();
    let _ = builder.stream::<String, String>("input-topic").group_by_key().count();
    check(
        &builder.build().unwrap(),
        "Topologies:
   Sub-topology: 0
    Source: KSTREAM-SOURCE-0000000000 (topics: [input-topic])
      --> KSTREAM-AGGREGATE-0000000002
    Processor: KSTREAM-AGGREGATE-0000000002 (stores: [KSTREAM-AGGREGATE-STATE-STORE-0000000001])
      --> none
      <-- KSTREAM-SOURCE-0000000000

",
    );
}

#[test]
fn topology_with_every_operator() {
    let builder = StreamsBuilder::new();
    let table = builder.table::<String, String>("t");
    let countries = builder.global_table::<String, String>("g");
    let left = builder.stream::<String, String>("a").filter(|_, _| true);
    let right = builder.stream::<String, String>("b").map(|key, value| (key, value));
    let merged = left.merge(&right).repartition(Repartitioned::default().with_name("both"));
    merged
        .select_key(|_, value| value.clone())
        .map_values(|_, value| value)
        .left_join(
            &table,
            |_, value, _| value,
            Joined::with(
                kstreams::serdes::DefaultSerde::serde(),
                kstreams::serdes::DefaultSerde::serde(),
            ),
        )
        .join_global(&countries, |key, _| key.clone(), |_, value, _| value)
        .to("out");
    merged.group_by(|_, value| value.clone()).count().to_stream().to("counts");
    check(&builder.build().unwrap(), include_str!("every_operator.txt"));
}

/// Kafka Streams would move the repartition above the processor, whose keys then lie on any partition.
#[test]
fn a_repartition_below_a_processor_stays_there_when_topics_are_merged() {
    struct Rekey;
    impl Processor<String, String, String, String> for Rekey {
        fn process(
            &mut self,
            record: Record<String, String>,
            context: &mut ProcessorContext<'_, '_, String, String>,
        ) -> kstreams::Result<()> {
            let Record { value, timestamp, .. } = record;
            context.forward(Record::new(value.clone(), value, timestamp))
        }
    }
    let described = |merge: &str| {
        let builder = StreamsBuilder::new();
        let mapped = builder.stream::<String, String>("in").map(|key, value| (value, key));
        mapped.process(|| Rekey, &[]).group_by_key().count();
        builder.build_with(merge.parse().unwrap()).unwrap().describe()
    };
    let merged = described("merge.repartition.topics");
    assert_eq!(merged, described("none"));
    assert!(merged.contains("--> KSTREAM-PROCESSOR-0000000002\n"), "{merged}");
    assert!(merged.contains("--> KSTREAM-FILTER-0000000006\n"), "{merged}");
}
