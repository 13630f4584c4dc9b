//! Hands the newest value, such as a model or a policy, from the thread that fetched it to each worker.
//!
//! Guarantees: no worker waits for a value. Limits: one value for each worker; a newer one replaces it.

use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A worker's end.
#[derive(Debug)]
pub struct Mailbox<T>(Arc<Mutex<Option<T>>>);

impl<T> Mailbox<T> {
    /// The newest value, unless it was taken before.
    pub fn take(&mut self) -> Option<T> {
        // The sender holds the lock only briefly. If it is held, the next call tries again.
        self.0.try_lock().ok()?.take()
    }
}

/// The other end of the mailboxes of all workers.
#[derive(Debug)]
pub struct Senders<T>(Vec<Weak<Mutex<Option<T>>>>);

impl<T> Senders<T> {
    /// A mailbox for each of these workers, and the other end of them.
    pub fn to_workers(workers: usize) -> (Self, Vec<Mailbox<T>>) {
        let mailboxes: Vec<Mailbox<T>> = (0..workers).map(|_| Mailbox(Arc::default())).collect();
        (Self(mailboxes.iter().map(|mailbox| Arc::downgrade(&mailbox.0)).collect()), mailboxes)
    }

    /// How many workers there were at the start.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether any worker is left.
    pub fn has_workers(&self) -> bool {
        self.0.iter().any(|mailbox| mailbox.strong_count() > 0)
    }

    /// Hands each worker its value, in the order of the workers.
    pub fn send(&self, values: impl IntoIterator<Item = T>) {
        for (mailbox, value) in self.0.iter().zip(values) {
            if let Some(mailbox) = mailbox.upgrade() {
                *mailbox.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_takes_its_newest_value_once() {
        let (senders, mut mailboxes) = Senders::to_workers(2);
        senders.send(["a1", "b1"]);
        senders.send(["a2", "b2"]);
        assert_eq!((mailboxes[0].take(), mailboxes[1].take()), (Some("a2"), Some("b2")));
        assert_eq!(mailboxes[0].take(), None);
        mailboxes.remove(0);
        assert!(senders.has_workers());
        senders.send(["a3", "b3"]);
        assert_eq!((mailboxes[0].take(), senders.count()), (Some("b3"), 2));
        mailboxes.clear();
        assert!(!senders.has_workers());
    }
}
