//! Blocking work of one kind: what comes while some of it is done is done next, in one go.
//!
//! To hand one thing to another thread and back costs more than many a small thing itself.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::blocking;

/// Work that is done off the runtime's own threads, several jobs at once. Clones share it.
pub struct Together<Job, Answer>(Arc<Shared<Job, Answer>>);

struct Shared<Job, Answer> {
    work: fn(Vec<Job>) -> Vec<Answer>,
    most_jobs: usize,
    most_groups: usize,
    waiting: Mutex<Waiting<Job, Answer>>,
}

struct Waiting<Job, Answer> {
    jobs: VecDeque<(Job, oneshot::Sender<Answer>)>,
    /// How many are worked on.
    groups: usize,
}

/// Jobs that are done in one go, and then the next ones.
struct Group<Job, Answer> {
    shared: Arc<Shared<Job, Answer>>,
    state: GroupState,
}

#[derive(PartialEq, Eq)]
enum GroupState {
    AtWork,
    /// It is counted no more.
    Ended,
}

impl<Job: Send + 'static, Answer: Send + 'static> Together<Job, Answer> {
    /// Nothing yet. The work gives an answer to each of its jobs, in their order; it gets at most so many of them at once, in at most
    /// so many groups at the same time.
    pub fn new(most_jobs: usize, most_groups: usize, work: fn(Vec<Job>) -> Vec<Answer>) -> Self {
        let waiting = Mutex::new(Waiting { jobs: VecDeque::new(), groups: 0 });
        Self(Arc::new(Shared { work, most_jobs, most_groups, waiting }))
    }

    /// Does it, with what waits at the same time. `None` if the work has panicked, or the runtime has gone.
    ///
    /// # Cancel safety
    /// Dropped half-way, it is done all the same.
    pub async fn done(&self, job: Job) -> Option<Answer> {
        let (answer, answered) = oneshot::channel();
        let begins = {
            let mut waiting = self.0.waiting();
            waiting.jobs.push_back((job, answer));
            let begins = waiting.groups < self.0.most_groups;
            waiting.groups += usize::from(begins);
            begins
        };
        if begins {
            // It begins when the runtime comes to it: what is asked for in the same moment goes along.
            tokio::spawn(Group { shared: self.0.clone(), state: GroupState::AtWork }.work());
        }
        answered.await.ok()
    }
}

impl<Job, Answer> Clone for Together<Job, Answer> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<Job, Answer> fmt::Debug for Together<Job, Answer> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Waiting { jobs, groups } = &*self.0.waiting();
        f.debug_struct("Together").field("waiting", &jobs.len()).field("groups", groups).finish_non_exhaustive()
    }
}

impl<Job, Answer> Shared<Job, Answer> {
    fn waiting(&self) -> MutexGuard<'_, Waiting<Job, Answer>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Job: Send + 'static, Answer: Send + 'static> Group<Job, Answer> {
    async fn work(mut self) {
        while let Some((jobs, asked)) = self.next() {
            let work = self.shared.work;
            let answers = blocking(move || work(jobs)).await;
            for (asked, answer) in asked.into_iter().zip(answers) {
                // Whoever waited may have gone.
                let _ = asked.send(answer);
            }
        }
    }

    /// What is done next; `None` ends it.
    fn next(&mut self) -> Option<(Vec<Job>, Vec<oneshot::Sender<Answer>>)> {
        let mut waiting = self.shared.waiting();
        let most = waiting.jobs.len().min(self.shared.most_jobs);
        if most == 0 {
            waiting.groups -= 1;
            self.state = GroupState::Ended;
            return None;
        }
        Some(waiting.jobs.drain(..most).unzip())
    }
}

impl<Job, Answer> Drop for Group<Job, Answer> {
    fn drop(&mut self) {
        if self.state == GroupState::AtWork {
            // The work has panicked, or the runtime has gone: nobody else may come for what waits.
            let mut waiting = self.shared.waiting();
            waiting.groups -= 1;
            waiting.jobs.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doubled(numbers: Vec<u64>) -> Vec<u64> {
        assert!(!numbers.is_empty() && numbers.len() <= 5);
        numbers.into_iter().map(|number| number.checked_mul(2).unwrap()).collect()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn however_many_ask_at_once_each_gets_its_own_answer() {
        let together = Together::new(5, 2, doubled);
        let asking = (0..50u64).map(|who| {
            let together = together.clone();
            tokio::spawn(async move {
                for number in who * 1000..who * 1000 + 100 {
                    assert_eq!(together.done(number).await, Some(2 * number));
                }
            })
        });
        for asked in asking.collect::<Vec<_>>() {
            asked.await.unwrap();
        }
        // A group may still be on its way to find that nothing waits.
        while together.0.waiting().groups > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_is_asked_for_in_one_moment_is_done_in_one_go() {
        let together = Together::new(64, 4, |jobs: Vec<()>| vec![jobs.len(); jobs.len()]);
        let answers = futures_util::future::join_all((0..10).map(|_| together.done(()))).await;
        assert_eq!(answers.into_iter().max().unwrap(), Some(10));
    }

    #[tokio::test]
    async fn work_that_panics_leaves_nobody_waiting() {
        let together = Together::new(1, 1, doubled);
        let (bad, good) = tokio::join!(together.done(u64::MAX), together.done(1));
        assert_eq!((bad, good), (None, None));
        assert_eq!(together.done(1).await, Some(2));
    }

    #[test]
    fn it_outlives_a_runtime() {
        let together = Together::new(1, 1, doubled);
        let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
        let first = runtime();
        first.block_on(async {
            let asked = together.clone();
            // Asked for, and not begun.
            let asked = tokio::spawn(async move { asked.done(1).await });
            tokio::task::yield_now().await;
            drop(asked);
        });
        drop(first);
        assert_eq!(runtime().block_on(together.done(2)), Some(4));
    }
}
