//! The simulated cluster against the real one: the same scripts on both. A script that the two answer differently fails on one of them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../kafka_ports/common.rs"]
#[allow(dead_code, reason = "shared with the tests of the ports, which need more of it")]
mod common;
mod scripts;

#[cfg(feature = "broker-tests")]
mod real {
    use kstreams::kafka::librdkafka::{ClientSettings, LibrdkafkaClients};
    use test_support::{bootstrap, unique};

    pub(super) fn run(name: &str, script: super::scripts::Script) {
        let group = unique(name);
        let clients = LibrdkafkaClients::new(ClientSettings::new(bootstrap(), &group)).unwrap();
        script(&clients, &group);
    }
}

/// Makes a test of each script on either cluster.
macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        mod simulated {
            $(#[test]
            fn $name() {
                simulation::on_cluster(stringify!($name), crate::scripts::$name);
            })*
        }

        #[cfg(feature = "broker-tests")]
        mod on_kafka {
            $(#[test]
            fn $name() {
                crate::real::run(&stringify!($name).replace('_', "-"), crate::scripts::$name);
            })*
        }
    };
}

scenarios!(
    offsets_and_records_are_committed_together_and_an_abort_leaves_neither,
    an_open_transaction_holds_the_end_back,
    a_new_producer_aborts_what_the_old_one_left_open_and_fences_it,
    a_stale_generation_has_lost_its_tasks_and_the_transaction_can_be_aborted,
    a_member_outside_the_group_and_a_partition_outside_the_assignment_cannot_be_committed,
    committed_offsets_wait_for_the_transaction_that_changes_them,
    two_members_share_by_range_and_the_first_gets_all_when_one_leaves,
    a_commit_outside_transactions_ends_with_its_membership,
    reading_begins_where_it_is_asked_to_and_an_offset_outside_the_log_is_corrupted,
    a_topic_that_is_missing_is_invalid,
);
