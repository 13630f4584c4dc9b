//! Policies: follows control's policy topic, and hands each new policy to the workers.
//!
//! Guarantees: a worker never waits; it takes the newest policy between two transactions. A policy that cannot be read
//! is refused as a whole, logged once, and the last good one stays in use until it is too old. If no broker answers or
//! the topic is absent, it is tried again; campaigns with a budget stop meanwhile, once their policy is too old.
//! Limits: one thread and one consumer for the process.

use crate::{
    event::Record,
    logging::LastingFault,
    mailbox::{Mailbox, Senders},
    source::{Reader, SourceError},
    targeting::policy::{Policy, PolicyFeed},
};
use anyhow::Context;
use std::{sync::Arc, time::Duration};

/// How long to wait for a policy before checking whether a worker is left.
const WAIT: Duration = Duration::from_millis(500);

/// How long to wait before opening the topic again.
const RETRY: Duration = Duration::from_secs(5);

/// A worker's access to the newest policy.
pub(super) type PolicyMailbox = Mailbox<Arc<Policy>>;

impl PolicyFeed for PolicyMailbox {
    fn take(&mut self) -> Option<Arc<Policy>> {
        Mailbox::take(self)
    }
}

/// Where the policies are.
pub(super) struct PolicyTopic {
    pub(super) brokers: String,
    pub(super) client: Vec<(String, String)>,
    pub(super) topic: String,
    /// The application, which is the key of its policies.
    pub(super) app: String,
}

/// Follows the policy topic for this many workers, on a thread that ends with the last of them.
pub(super) fn follow(topic: PolicyTopic, workers: usize) -> anyhow::Result<Vec<PolicyMailbox>> {
    let (senders, mailboxes) = Senders::to_workers(workers);
    let follower = Follower { topic, senders, fault: LastingFault::default() };
    let thread = std::thread::Builder::new().name("policies".to_owned());
    thread.spawn(move || follower.run()).map(drop).context("start the thread that follows control's policies")?;
    Ok(mailboxes)
}

struct Follower {
    topic: PolicyTopic,
    senders: Senders<Arc<Policy>>,
    fault: LastingFault,
}

impl Follower {
    fn run(mut self) {
        while self.senders.has_workers() {
            if let Err(error) = self.read()
                && self.senders.has_workers()
            {
                self.fault(&error.to_string());
                self.wait();
            }
        }
    }

    /// Waits before the next attempt, unless all workers have ended.
    fn wait(&self) {
        let mut left = RETRY;
        while self.senders.has_workers() && !left.is_zero() {
            std::thread::sleep(WAIT.min(left));
            left = left.saturating_sub(WAIT);
        }
    }

    /// Reads the topic until the client fails or the last worker has ended.
    fn read(&mut self) -> Result<(), SourceError> {
        let PolicyTopic { brokers, client, topic, .. } = &self.topic;
        let reader = Reader::open(brokers, client, &[topic])?;
        if reader.is_empty() {
            let doing = format!("look up {topic}");
            let detail = "the topic does not exist; create it with: aimpoint topics --create".to_owned();
            return Err(SourceError::Unreachable { doing, detail });
        }
        while self.senders.has_workers() {
            let mut newest = None;
            reader.poll(WAIT, |_, record, _| {
                if let Some(payload) = self.payload(record) {
                    newest = Some(payload.to_vec());
                }
            })?;
            match newest.map(|payload| Policy::parse(&payload)) {
                None => {}
                Some(Ok(policy)) => self.hand_over(policy),
                Some(Err(error)) => self.fault(&error),
            }
        }
        Ok(())
    }

    /// The policy in a record. Keys of other applications are passed over.
    fn payload<'a>(&self, record: &Record<'a>) -> Option<&'a [u8]> {
        record.payload.filter(|_| record.key == Some(self.topic.app.as_bytes()))
    }

    fn hand_over(&mut self, policy: Policy) {
        if self.fault.ends() {
            tracing::info!(version = policy.version, "control's policies can be read again");
        }
        let policy = Arc::new(policy);
        self.senders.send(std::iter::repeat_with(|| Arc::clone(&policy)));
    }

    fn fault(&mut self, error: &str) {
        if self.fault.begins(error) {
            let topic = &self.topic.topic;
            tracing::warn!(
                error,
                topic,
                "control's policy cannot be read: campaigns with a budget stop when the last one is too old"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_of_other_applications_and_tombstones_are_passed_over() {
        let topic = PolicyTopic {
            brokers: String::new(),
            client: Vec::new(),
            topic: "shop-policy".to_owned(),
            app: "shop".to_owned(),
        };
        let follower = Follower { topic, senders: Senders::to_workers(0).0, fault: LastingFault::default() };
        let record = |key: &'static str, payload| Record { key: Some(key.as_bytes()), payload, ..Record::default() };
        assert_eq!(follower.payload(&record("shop", Some(b"{}"))), Some(&b"{}"[..]));
        assert_eq!(follower.payload(&record("shop", None)), None);
        assert_eq!(follower.payload(&record("other", Some(b"{}"))), None);
        assert_eq!(follower.payload(&Record { payload: Some(b"{}"), ..Record::default() }), None);
    }
}
