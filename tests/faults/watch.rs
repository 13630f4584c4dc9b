//! A read-committed consumer of decisions that records their arrival times, to measure the pauses of partitions.

use aimpoint::source::Reader;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Reads decisions on another thread until stopped.
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    /// When the last decision of each partition came.
    last: Arc<Mutex<Vec<Option<Instant>>>>,
    thread: JoinHandle<Vec<Vec<Instant>>>,
}

impl Watch {
    /// Starts reading the decisions of this many partitions.
    pub(crate) fn start(brokers: &str, partitions: i32) -> Self {
        let reader = Reader::open(brokers, &[], &["decisions"]).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let last = Arc::new(Mutex::new(vec![None; partitions as usize]));
        let (stopped, saw) = (Arc::clone(&stop), Arc::clone(&last));
        let thread = std::thread::spawn(move || {
            let mut came = vec![Vec::<Instant>::new(); partitions as usize];
            while !stopped.load(Ordering::Relaxed) {
                let taken = reader.poll(Duration::from_millis(20), |_, record, _| {
                    let (now, came) = (Instant::now(), &mut came[record.partition as usize]);
                    if came.last().is_none_or(|last| now - *last > Duration::from_millis(1)) {
                        came.push(now);
                    }
                });
                match taken {
                    Ok(0) => {}
                    Ok(_) => *saw.lock().unwrap() = came.iter().map(|came| came.last().copied()).collect(),
                    // The client reconnects when a broker comes back. Errors come at once, and asking without a pause
                    // would take the processors from the brokers.
                    Err(_) => std::thread::sleep(Duration::from_millis(20)),
                }
            }
            came
        });
        Self { stop, last, thread }
    }

    /// Whether a decision has arrived.
    pub(crate) fn has_seen_one(&self) -> bool {
        self.last.lock().unwrap().iter().any(Option::is_some)
    }

    /// Whether a decision of each partition has arrived after this time.
    pub(crate) fn has_seen_all_since(&self, time: Instant) -> bool {
        self.last.lock().unwrap().iter().all(|last| last.is_some_and(|last| last > time))
    }

    /// The arrival times of decisions, by partition.
    pub(crate) fn finish(self) -> Came {
        self.stop.store(true, Ordering::Relaxed);
        Came(self.thread.join().unwrap())
    }
}

/// The arrival times of decisions by partition, in milliseconds.
pub(crate) struct Came(Vec<Vec<Instant>>);

impl Came {
    /// The longest gap between two decisions of a partition that overlaps this period.
    pub(crate) fn longest_pause(&self, partition: i32, from: Instant, to: Instant) -> Duration {
        let pauses = self.0[partition as usize].windows(2).filter(|pair| pair[1] > from && pair[0] < to);
        pauses.map(|pair| pair[1] - pair[0]).max().unwrap_or(to - from)
    }
}
