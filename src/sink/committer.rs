//! The committing thread. It waits for the broker while the worker continues.

use super::{
    SinkError,
    producer::{OutputProducer, await_deliveries, commit},
};
use crate::kafka::KafkaGroup;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use rdkafka::topic_partition_list::TopicPartitionList;
use std::{sync::Arc, time::Duration};

/// One commit.
pub(super) struct Job {
    pub(super) producer: Arc<OutputProducer>,
    /// The outlet and the turn whose outputs must be delivered first.
    pub(super) outlet: Option<(Arc<OutputProducer>, usize)>,
    pub(super) positions: TopicPartitionList,
    pub(super) group: KafkaGroup,
}

/// The thread. It ends when this is dropped.
pub(super) struct Committer {
    jobs: Sender<Job>,
    outcomes: Receiver<Result<(), SinkError>>,
}

impl Committer {
    pub(super) fn start() -> Result<Self, SinkError> {
        let (jobs, taken) = crossbeam_channel::bounded::<Job>(1);
        let (answers, outcomes) = crossbeam_channel::bounded(1);
        std::thread::Builder::new()
            .name("committer".to_owned())
            .spawn(move || {
                for Job { producer, outlet, positions, group } in taken {
                    let delivered = outlet.map_or(Ok(()), |(outlet, turn)| await_deliveries(&outlet, turn));
                    if answers.send(delivered.and_then(|()| commit(&producer, &positions, &group))).is_err() {
                        break;
                    }
                }
            })
            .map_err(|error| SinkError::Fatal { doing: "start the committing thread", detail: error.to_string() })?;
        Ok(Self { jobs, outcomes })
    }

    /// Starts a commit. The outcome of the previous one must have been taken.
    pub(super) fn begin(&self, job: Job) -> Result<(), SinkError> {
        self.jobs.send(job).map_err(|_| ended())
    }

    /// The outcome of the commit; `None` if it is not known within this time.
    pub(super) fn outcome(&self, wait: Duration) -> Option<Result<(), SinkError>> {
        // Even with a zero timeout, the channel's wait would spin and yield the core first.
        let answer = match self.outcomes.try_recv() {
            Err(TryRecvError::Empty) if !wait.is_zero() => self.outcomes.recv_timeout(wait),
            answer => answer.map_err(|error| match error {
                TryRecvError::Empty => RecvTimeoutError::Timeout,
                TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
            }),
        };
        match answer {
            Ok(result) => Some(result),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Err(ended())),
        }
    }
}

/// The thread ends before the sink only if there is a bug.
fn ended() -> SinkError {
    SinkError::Fatal { doing: "commit the transaction", detail: "the committing thread has ended".to_owned() }
}
