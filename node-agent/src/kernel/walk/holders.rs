//! Which process holds which TCP socket.

use std::collections::{BTreeMap, HashMap};

use kube_tcpstates_common::walk::{ASKED_TASKS, Holding, Task, end};

use super::Walker;
use crate::kernel::error::BoxError;

impl Walker<'_> {
    /// The process that holds each socket, by the socket's kernel address, in any pid namespace. Where several do, the
    /// one that started first: children have their parent's descriptors.
    pub(in super::super) fn holders(&mut self) -> Result<HashMap<u64, Task>, BoxError> {
        let mut tasks = BTreeMap::new();
        self.ring("walk_tasks", |shared| {
            let told = shared.take_told::<Task>();
            tasks.extend(told.into_iter().map(|task| ((task.started, task.task), task)));
        })?;
        // In order of their start.
        let tasks: Vec<Task> = tasks.into_values().collect();
        let mut holders = HashMap::new();
        for tasks in tasks.chunks(ASKED_TASKS) {
            self.descriptors(tasks, &mut holders)?;
        }
        Ok(holders)
    }

    fn descriptors(&mut self, tasks: &[Task], holders: &mut HashMap<u64, Task>) -> Result<(), BoxError> {
        self.begin(|walk| {
            for (words, task) in walk.words.chunks_exact_mut(2).zip(tasks) {
                words.copy_from_slice(&[task.task, task.started]);
                walk.cursor.asked += 1;
            }
        });
        loop {
            let ended = self.slice("walk_descriptors")?;
            for holding in self.shared.take_told::<Holding>() {
                if let Some(task) = tasks.get(holding.task as usize) {
                    holders.entry(holding.socket).or_insert(*task);
                }
            }
            match ended {
                end::STEPS | end::FULL => {}
                end::DONE => return Ok(()),
                _ => return Err("the walk's memory is gone".into()),
            }
        }
    }
}
