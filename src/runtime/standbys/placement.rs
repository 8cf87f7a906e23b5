//! Who keeps a standby of which task: the members to which the task would go if those before them left.
//!
//! With `range`, under the classic protocol and KIP-848 alike, an assignment has no room for standbys. So every member works them out for itself
//! from what DescribeGroups says, which is the same for all: members in the assignor's order, and what each has. The first
//! standby of a task is where `range` puts it without its owner, the second one where it puts it without these two, and so on. So after the loss of a member
//! each of its tasks goes to where its state is. The rejected way, standbys spread evenly or over racks, as Kafka Streams' own
//! assignor does: there the assignor, which sees the standbys, moves the active task to one of them, but `range` would send it past them. For the
//! same reason client tags (`rack.aware.assignment.tags`) have no part in it; with the streams group protocol the broker decides.
//!
//! Pure: called with members by the standby thread and by queries.

use std::collections::BTreeMap;

use crate::ids::{TaskId, TopicPartition};
use crate::kafka::GroupMember;
use crate::runtime::assignment::{leading_topic, tasks_of};
use crate::task::TaskBuilder;

/// The standbys of each task that has an owner and a logged store, as indices into `members`, the first in line first.
pub(in crate::runtime) fn place_standbys(
    builder: &TaskBuilder,
    members: &[GroupMember],
    replicas: usize,
) -> BTreeMap<TaskId, Vec<usize>> {
    let mut placed = BTreeMap::new();
    for (owner, member) in members.iter().enumerate() {
        for task in tasks_of(builder, &member.partitions) {
            if builder.has_logged_store(task)
                && let Some(topic) = leading_topic(builder, task.subtopology)
            {
                let partition = TopicPartition::new(topic.clone(), task.partition);
                let count = builder.plan.source_topics[&topic];
                placed.insert(task, heirs(members, owner, &partition, count, replicas));
            }
        }
    }
    placed
}

/// To whom a partition goes, of so many, when its owner leaves, and then the next one.
fn heirs(
    members: &[GroupMember],
    owner: usize,
    partition: &TopicPartition,
    count: i32,
    replicas: usize,
) -> Vec<usize> {
    let mut left: Vec<usize> = (0..members.len()).filter(|member| *member != owner).collect();
    left.sort_by(|a, b| in_assignors_order(&members[*a], &members[*b]));
    let mut heirs = Vec::new();
    while heirs.len() < replicas && !left.is_empty() {
        heirs.push(left.remove(owner_by_range(partition.partition, count, left.len())));
    }
    heirs
}

/// Source: `rd_kafka_group_member_cmp` of librdkafka, `AbstractPartitionAssignor.MemberInfo.compareTo` of Java.
fn in_assignors_order(a: &GroupMember, b: &GroupMember) -> std::cmp::Ordering {
    match (&a.group_instance_id, &b.group_instance_id) {
        (Some(a), Some(b)) => a.cmp(b),
        _ => a.member_id.cmp(&b.member_id),
    }
}

/// Which of `members` has a partition of `count`: the first ones have one more where it does not come out even. Source: `RangeAssignor`.
fn owner_by_range(partition: i32, count: i32, members: usize) -> usize {
    let (partition, count) = (partition.unsigned_abs() as usize, count.unsigned_abs() as usize);
    let (each, more) = (count / members, count % members);
    let of_larger = more * (each + 1);
    match partition < of_larger {
        true => partition / (each + 1),
        false => more + (partition - of_larger) / each.max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `range` makes of a topic.
    fn range(count: i32, members: usize) -> Vec<Vec<i32>> {
        let mut assigned = vec![Vec::new(); members];
        for partition in 0..count {
            assigned[owner_by_range(partition, count, members)].push(partition);
        }
        assigned
    }

    fn group(names: &[&str], count: i32) -> Vec<GroupMember> {
        let assigned = range(count, names.len());
        let member = |(name, partitions): (&&str, Vec<i32>)| GroupMember {
            member_id: (*name).to_owned(),
            group_instance_id: None,
            client_id: String::new(),
            partitions: partitions.into_iter().map(|p| TopicPartition::new("t", p)).collect(),
        };
        names.iter().zip(assigned).map(member).collect()
    }

    #[test]
    fn range_gives_the_first_members_one_more() {
        assert_eq!(range(7, 3), [vec![0, 1, 2], vec![3, 4], vec![5, 6]]);
        assert_eq!(range(2, 3), [vec![0], vec![1], vec![]]);
        assert_eq!(range(6, 1), [vec![0, 1, 2, 3, 4, 5]]);
    }

    #[test]
    fn a_lost_members_partitions_go_to_their_standbys() {
        let names = ["a", "b", "c", "d", "e"];
        for size in 2..=names.len() {
            for count in [1, 3, 6, 7, 12] {
                let before = group(&names[..size], count);
                for lost in 0..size {
                    let rest: Vec<&str> =
                        (0..size).filter(|m| *m != lost).map(|m| names[m]).collect();
                    let after = group(&rest, count);
                    for partition in &before[lost].partitions {
                        let heirs = heirs(&before, lost, partition, count, 2);
                        let owner = after.iter().find(|m| m.partitions.contains(partition));
                        assert_eq!(before[heirs[0]].member_id, owner.unwrap().member_id);
                        assert_eq!(heirs.len(), 2.min(size - 1), "one each");
                        assert!(!heirs.contains(&lost) && heirs.first() != heirs.get(1));
                    }
                }
            }
        }
    }

    #[test]
    fn static_members_are_ordered_by_their_instance_and_a_lone_one_has_no_standby() {
        let mut members = group(&["z", "y", "x"], 3);
        for (member, instance) in members.iter_mut().zip(["1", "2", "3"]) {
            member.group_instance_id = Some(instance.to_owned());
        }
        let first = TopicPartition::new("t", 0);
        assert_eq!(heirs(&members, 0, &first, 3, 9), [1, 2]);
        assert_eq!(heirs(&members[..1], 0, &first, 3, 1), [0; 0]);
    }
}
