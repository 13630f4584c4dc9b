//! The exit codes, and which failure has which.

use crate::{
    config::ConfigError,
    engine::{EngineError, FleetError},
    inference::{FolderError, ModelError, Refusal, RuntimeError},
    sink::{EmbeddedError, PublishError, SinkError, TopicsError},
    source::SourceError,
    training::TrainError,
};
use std::{io, process::ExitCode};

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
    /// A file is absent, or it is a folder where a file is wanted, or the other way round.
    NoInput = 66,
    /// Nothing is known of the user.
    NoUser = 67,
    /// No broker answers, or it refuses.
    Broker = 69,
    /// A bug, or a failure that none of the others covers.
    Internal = 70,
    /// The system refuses: an address that is taken or not this machine's, no more threads, files or memory.
    System = 71,
    /// A topic is absent, or does not fit the others.
    Topics = 72,
    /// Reading or writing failed, for instance on a full disk.
    Io = 74,
    /// A shutdown took longer than its deadline.
    Deadline = 75,
    /// There were records, and nothing became of them for `engine.stall_after`, or a worker hung.
    Stalled = 76,
    /// The system's rights do not allow it.
    Denied = 77,
    /// The configuration is wrong.
    Config = 78,
    /// ONNX Runtime is absent or too old.
    Library = 79,
    /// The model cannot be used.
    Model = 80,
    /// Who read the output has gone, as `head` goes: what a shell says of a process that SIGPIPE ended.
    Pipe = 141,
}

impl Exit {
    /// All codes with what they mean.
    pub const ALL: [(Self, &'static str); 17] = [
        (Self::Clean, "everything was done"),
        (Self::Usage, "the command line cannot be understood"),
        (Self::Data, "a file of rows or events cannot be used"),
        (Self::NoInput, "a file is absent, or it is a folder where a file is wanted, or the other way round"),
        (Self::NoUser, "nothing is known of the user"),
        (Self::Broker, "no broker answers, or it refuses"),
        (Self::Internal, "a bug, or a failure that none of the others covers"),
        (Self::System, "the system refuses: an address that is taken, no more threads, files or memory"),
        (Self::Topics, "a topic is absent, or does not fit the others"),
        (Self::Io, "reading or writing failed, for instance on a full disk"),
        (Self::Deadline, "a shutdown took longer than its deadline"),
        (Self::Stalled, "there were records and no progress for engine.stall_after, or a worker hung"),
        (Self::Denied, "the system's rights do not allow it"),
        (Self::Config, "the configuration is wrong"),
        (Self::Library, "ONNX Runtime is absent or too old"),
        (Self::Model, "the model cannot be used"),
        (Self::Pipe, "who read the output has gone"),
    ];

    /// The code of a failure.
    pub fn of(error: &anyhow::Error) -> Self {
        let words = error.chain().find_map(Self::of_one);
        let system = || error.chain().find_map(|error| error.downcast_ref::<io::Error>()).map(Self::of_io);
        words.or_else(system).unwrap_or(Self::Internal)
    }

    /// An error with this code.
    pub(super) fn because(self, message: impl Into<String>) -> anyhow::Error {
        Failure { exit: self, message: message.into() }.into()
    }

    /// The code of what the system says.
    pub(super) fn of_io(error: &io::Error) -> Self {
        use io::ErrorKind;
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::IsADirectory | ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
                Self::NoInput
            }
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Self::Denied,
            ErrorKind::AddrInUse
            | ErrorKind::AddrNotAvailable
            | ErrorKind::WouldBlock
            | ErrorKind::OutOfMemory
            | ErrorKind::ResourceBusy => Self::System,
            // Too many open files, of this process or of the system.
            _ if matches!(error.raw_os_error(), Some(23 | 24)) => Self::System,
            ErrorKind::BrokenPipe => Self::Pipe,
            _ => Self::Io,
        }
    }

    /// The code of a file of rows or events: its content is at fault unless the system says otherwise.
    fn of_file(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => Self::Data,
            _ if error.raw_os_error().is_some() => Self::of_io(error),
            _ => match Self::of_io(error) {
                Self::Io => Self::Data,
                other => other,
            },
        }
    }

    fn of_one(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        if let Some(error) = error.downcast_ref::<ConfigError>() {
            return Some(match error {
                ConfigError::Unreadable { error, .. } => match error.kind() {
                    io::ErrorKind::InvalidData | io::ErrorKind::FileTooLarge => Self::Config,
                    _ => Self::of_io(error),
                },
                ConfigError::Faulty(_) => Self::Config,
                ConfigError::Bug { .. } => Self::Internal,
            });
        }
        if error.is::<RuntimeError>() {
            return Some(Self::Library);
        }
        // A file that the system does not give says nothing of the model in it.
        let unread = match (error.downcast_ref(), error.downcast_ref()) {
            (Some(ModelError::Read { source: error, .. }), _) => Some(error),
            (_, Some(FolderError::File { error, .. })) => Some(error),
            (_, Some(FolderError::Model(ModelError::Read { source: error, .. }))) => Some(error),
            _ => None,
        };
        if let Some(error) = unread.filter(|error| error.raw_os_error().is_some()) {
            return Some(Self::of_io(error));
        }
        if error.is::<ModelError>()
            || error.is::<crate::app::LoadError>()
            || error.is::<FolderError>()
            || error.is::<Refusal>()
        {
            return Some(Self::Model);
        }
        if let Some(failure) = error.downcast_ref::<Failure>() {
            return Some(failure.exit);
        }
        if let Some(error) = error.downcast_ref::<TrainError>() {
            return Some(match error {
                TrainError::File { source, .. } => Self::of_file(source),
                _ => Self::Data,
            });
        }
        if let Some(error) = error.downcast_ref::<super::files::FileError>() {
            return Some(Self::of_file(error.system()));
        }
        if error.is::<crate::app::topics::Unfit>() {
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
            SourceError::Unreachable { .. } | SourceError::Fenced { .. } | SourceError::Fatal { .. } => Self::Broker,
        }
    }
}

/// A failure of a command that says itself how the process ends.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Failure {
    exit: Exit,
    message: String,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn what_the_system_says_has_a_code_of_its_own_however_deep_it_lies() {
        for (kind, exit) in [
            (io::ErrorKind::NotFound, Exit::NoInput),
            (io::ErrorKind::NotADirectory, Exit::NoInput),
            (io::ErrorKind::PermissionDenied, Exit::Denied),
            (io::ErrorKind::AddrInUse, Exit::System),
            (io::ErrorKind::StorageFull, Exit::Io),
            (io::ErrorKind::BrokenPipe, Exit::Pipe),
        ] {
            let error = Err::<(), _>(io::Error::from(kind)).context("inside").context("outside").unwrap_err();
            assert_eq!(Exit::of(&error), exit, "{kind}");
        }
        assert_eq!(Exit::of(&Exit::NoUser.because("nobody").context("outside")), Exit::NoUser);
        assert_eq!(Exit::of(&anyhow::anyhow!("a bug")), Exit::Internal);
        for (kind, exit) in [
            (io::ErrorKind::NotFound, Exit::NoInput),
            (io::ErrorKind::IsADirectory, Exit::NoInput),
            (io::ErrorKind::PermissionDenied, Exit::Denied),
            (io::ErrorKind::InvalidData, Exit::Config),
            (io::ErrorKind::FileTooLarge, Exit::Config),
        ] {
            let error = ConfigError::Unreadable { path: "a.toml".into(), error: kind.into() };
            assert_eq!(Exit::of(&error.into()), exit, "{kind}");
        }
        let bug = ConfigError::Bug { path: "a.toml".into(), words: "index out of bounds".to_owned() };
        assert_eq!(Exit::of(&bug.into()), Exit::Internal);
    }

    #[test]
    fn the_codes_are_listed_in_their_order() {
        assert!(Exit::ALL.windows(2).all(|pair| (pair[0].0 as u8) < pair[1].0 as u8));
    }
}
