//! The exit codes, and which failure has which.

use crate::{
    config::ConfigError,
    engine::{EngineError, FleetError},
    inference::{FolderError, ModelError, Refusal, RuntimeError},
    sink::{EmbeddedError, PublishError, SinkError, TopicsError},
    source::SourceError,
    training::TrainError,
};
use std::process::ExitCode;

/// How a process ends. Codes from 64 on are those of `sysexits.h`, where it has one that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything was done.
    Clean = 0,
    /// The command line cannot be understood.
    Usage = 2,
    /// A file of rows or events cannot be used.
    Data = 65,
    /// No broker answers, or it refuses.
    Broker = 69,
    /// A bug, or a failure that none of the others covers.
    Internal = 70,
    /// A topic is absent, or does not fit the others.
    Topics = 72,
    /// A shutdown took longer than its deadline.
    Deadline = 75,
    /// There were records, and nothing became of them for `engine.stall_after`, or a worker hung.
    Stalled = 76,
    /// The configuration is wrong.
    Config = 78,
    /// ONNX Runtime is absent or too old.
    Library = 79,
    /// The model cannot be used.
    Model = 80,
}

impl Exit {
    /// All codes with what they mean.
    pub const ALL: [(Self, &'static str); 11] = [
        (Self::Clean, "everything was done"),
        (Self::Usage, "the command line cannot be understood"),
        (Self::Data, "a file of rows or events cannot be used"),
        (Self::Broker, "no broker answers, or it refuses"),
        (Self::Internal, "a bug, or a failure that none of the others covers"),
        (Self::Topics, "a topic is absent, or does not fit the others"),
        (Self::Deadline, "a shutdown took longer than its deadline"),
        (Self::Stalled, "there were records and no progress for engine.stall_after, or a worker hung"),
        (Self::Config, "the configuration is wrong"),
        (Self::Library, "ONNX Runtime is absent or too old"),
        (Self::Model, "the model cannot be used"),
    ];

    /// The code of a failure.
    pub fn of(error: &anyhow::Error) -> Self {
        error.chain().find_map(Self::of_one).unwrap_or(Self::Internal)
    }

    fn of_one(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        if error.is::<ConfigError>() {
            return Some(Self::Config);
        }
        if error.is::<RuntimeError>() {
            return Some(Self::Library);
        }
        if error.is::<ModelError>() || error.is::<FolderError>() || error.is::<Refusal>() {
            return Some(Self::Model);
        }
        if error.is::<TrainError>() || error.is::<super::files::FileError>() {
            return Some(Self::Data);
        }
        if error.is::<super::topics::Unfit>() {
            return Some(Self::Topics);
        }
        if let Some(error) = error.downcast_ref::<FleetError>() {
            return Some(match error {
                FleetError::Deadline { .. } => Self::Deadline,
                FleetError::Broken(_) => Self::Internal,
                FleetError::Hung { .. } | FleetError::Worker { error: EngineError::Stalled { .. }, .. } => {
                    Self::Stalled
                }
                FleetError::Worker { error: EngineError::Source(error), .. } => Self::of_source(error),
                FleetError::Worker { error: EngineError::Sink(SinkError::Fatal { .. }), .. } => Self::Broker,
                FleetError::Worker { error: EngineError::Sink(_) | EngineError::Commit { .. }, .. } => Self::Broker,
            });
        }
        if let Some(error) = error.downcast_ref::<TopicsError>() {
            return Some(if matches!(error, TopicsError::Settings(_)) { Self::Config } else { Self::Broker });
        }
        if let Some(error) = error.downcast_ref::<PublishError>() {
            return Some(if matches!(error, PublishError::Settings(_)) { Self::Config } else { Self::Broker });
        }
        if let Some(error) = error.downcast_ref::<SourceError>() {
            return Some(Self::of_source(error));
        }
        // A sink fails where the broker does not answer or refuses.
        (error.is::<SinkError>() || error.is::<EmbeddedError>()).then_some(Self::Broker)
    }

    fn of_source(error: &SourceError) -> Self {
        match error {
            SourceError::Settings { .. } => Self::Config,
            SourceError::Unreachable { .. } | SourceError::Fatal { .. } => Self::Broker,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
