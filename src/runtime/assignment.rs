//! From partitions to tasks, and from tasks to threads.
//!
//! A task belongs to whoever owns its partition of the subtopology's *leading* topic: the one with the most partitions, the first by
//! name of those. All topics are subscribed to, so that their offsets are kept and tools show who reads them, but only the
//! leading one decides. With `range` and equal partition counts this is the same as owning all of a task's partitions; with unequal counts (a merge
//! of 6 and 3 partitions) it still gives each task exactly one owner, where taking every topic by itself would not.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ids::{TaskId, TopicPartition};
use crate::task::TaskBuilder;

/// The tasks that an assignment of partitions means.
pub(super) fn tasks_of(builder: &TaskBuilder, partitions: &[TopicPartition]) -> Vec<TaskId> {
    let mut tasks = Vec::new();
    for subtopology in builder.subtopologies.iter().filter(|sub| !sub.global) {
        let Some(leader) = leading_topic(builder, subtopology.id) else { continue };
        let owned = partitions.iter().filter(|partition| partition.topic == leader);
        tasks.extend(owned.map(|partition| TaskId {
            subtopology: subtopology.id,
            partition: partition.partition,
        }));
    }
    tasks.sort_unstable();
    tasks
}

pub(super) fn leading_topic(builder: &TaskBuilder, subtopology: u32) -> Option<Arc<str>> {
    let first = TaskId { subtopology, partition: 0 };
    let topics = builder.source_partitions(first).into_iter().map(|partition| partition.topic);
    topics.min_by_key(|topic| (-builder.plan.source_topics[topic], topic.clone()))
}

/// Places tasks on threads: where they are already, else on the thread with the fewest.
pub(super) fn place(
    tasks: &[TaskId],
    current: &BTreeMap<TaskId, usize>,
    threads: usize,
) -> Vec<Vec<TaskId>> {
    let mut placed: Vec<Vec<TaskId>> = vec![Vec::new(); threads];
    let most = tasks.len().div_ceil(threads);
    let mut homeless = Vec::new();
    for task in tasks {
        match current.get(task).filter(|thread| placed[**thread].len() < most) {
            Some(thread) => placed[*thread].push(*task),
            None => homeless.push(*task),
        }
    }
    for task in homeless {
        let emptiest = placed.iter_mut().min_by_key(|tasks| tasks.len());
        emptiest.expect("there is at least one thread").push(task);
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks(numbers: &[i32]) -> Vec<TaskId> {
        numbers.iter().map(|partition| TaskId { subtopology: 0, partition: *partition }).collect()
    }

    #[test]
    fn tasks_stay_where_they_are_and_new_ones_fill_up() {
        let current = tasks(&[0, 1, 2]).into_iter().zip([1, 1, 0]).collect();
        let placed = place(&tasks(&[0, 1, 2, 3, 4]), &current, 2);
        assert_eq!(placed, [tasks(&[2, 3, 4]), tasks(&[0, 1])]);
    }

    #[test]
    fn too_many_on_one_thread_are_spread() {
        let current = tasks(&[0, 1, 2, 3]).into_iter().map(|task| (task, 0)).collect();
        let placed = place(&tasks(&[0, 1, 2, 3]), &current, 2);
        assert_eq!(placed, [tasks(&[0, 1]), tasks(&[2, 3])]);
    }
}
