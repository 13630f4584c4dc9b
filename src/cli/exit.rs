//! The exit codes, and the mapping from errors to them.

use crate::{
    app::{ControlError, Namesake, ServeError},
    config::ConfigLoadError,
    engine::{EngineError, FleetError},
    inference::{FolderError, ModelError, Refusal, RuntimeError},
    sink::{EmbeddedError, PublishError, SinkError, TopicsError},
    source::SourceError,
    training::TrainError,
};
use std::{io, process::ExitCode};

/// The exit codes of a process. From 64 on they follow `sysexits.h` where it has a matching code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Success.
    Clean = 0,
    /// The command line is invalid.
    Usage = 2,
    /// A file of rows or events cannot be used.
    Data = 65,
    /// A file is missing, or a folder was given instead of a file or the other way round.
    NoInput = 66,
    /// The user is unknown.
    NoUser = 67,
    /// No broker or language model responds, or it refuses the request.
    Broker = 69,
    /// A bug, or a failure that no other code covers.
    Internal = 70,
    /// The operating system refuses: the address is in use or not local, or it is out of threads, files or memory.
    System = 71,
    /// A topic is missing, or does not match the others.
    Topics = 72,
    /// Something about a user who should be erased is still held.
    Held = 73,
    /// Reading or writing failed, for instance on a full disk.
    Io = 74,
    /// A shutdown took longer than its deadline.
    Deadline = 75,
    /// For `engine.stall_after`, records were waiting but nothing was committed, or no broker answered; or a worker hung.
    Stalled = 76,
    /// Permission denied by the operating system.
    Denied = 77,
    /// The configuration is wrong.
    Config = 78,
    /// ONNX Runtime is missing or too old.
    Library = 79,
    /// The model cannot be used.
    Model = 80,
    /// The version is not shown to be better, so nothing was changed.
    NotBetter = 81,
    /// Logged features differ from the replayed ones by more than allowed.
    Skew = 82,
    /// The reader closed the output pipe, as `head` does: the code that a shell reports for SIGPIPE.
    Pipe = 141,
}

impl Exit {
    /// All codes with their meaning.
    pub const ALL: [(Self, &'static str); 20] = [
        (Self::Clean, "success"),
        (Self::Usage, "the command line is invalid"),
        (Self::Data, "a file of rows or events cannot be used"),
        (Self::NoInput, "a file is missing, or a folder was given instead of a file or the other way round"),
        (Self::NoUser, "the user is unknown"),
        (Self::Broker, "no broker or language model responds, or it refuses the request"),
        (Self::Internal, "a bug, or a failure that no other code covers"),
        (Self::System, "the operating system refuses: the address is in use, or it is out of threads, files or memory"),
        (Self::Topics, "a topic is missing, or does not match the others"),
        (Self::Held, "something about a user who should be erased is still held"),
        (Self::Io, "reading or writing failed, for instance on a full disk"),
        (Self::Deadline, "a shutdown took longer than its deadline"),
        (
            Self::Stalled,
            "for engine.stall_after, records were waiting but nothing was committed, or no broker answered; or a worker hung",
        ),
        (Self::Denied, "permission denied by the operating system"),
        (Self::Config, "the configuration is wrong"),
        (Self::Library, "ONNX Runtime is missing or too old"),
        (Self::Model, "the model cannot be used"),
        (Self::NotBetter, "the version is not shown to be better than the active one; nothing was changed"),
        (Self::Skew, "logged features differ from the replayed ones by more than --tolerance"),
        (Self::Pipe, "the reader closed the output pipe"),
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

    /// The code of an error of the operating system.
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

    /// The code of a failed read of rows or events: bad content, unless the operating system reports an error.
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
        if let Some(error) = error.downcast_ref::<ConfigLoadError>() {
            return Some(match error {
                ConfigLoadError::Unreadable { error, .. } => match error.kind() {
                    io::ErrorKind::InvalidData | io::ErrorKind::FileTooLarge => Self::Config,
                    _ => Self::of_io(error),
                },
                ConfigLoadError::Invalid(_) => Self::Config,
                ConfigLoadError::Bug { .. } => Self::Internal,
            });
        }
        if error.is::<Namesake>() {
            return Some(Self::Config);
        }
        if error.is::<RuntimeError>() {
            return Some(Self::Library);
        }
        // An error of the operating system says nothing about the model in the file.
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
        if let Some(error) = error.downcast_ref::<ControlError>() {
            return Some(match error {
                ControlError::Source(error) => Self::of_source(error),
                ControlError::Sink(_) | ControlError::Deposed(_) => Self::Broker,
                ControlError::Restore { .. } => Self::Topics,
                ControlError::Stalled { .. } => Self::Stalled,
                ControlError::Deadline(_) => Self::Deadline,
                ControlError::Broken => Self::Internal,
            });
        }
        if let Some(error) = error.downcast_ref::<ServeError>() {
            return Some(match error {
                ServeError::Source(error) | ServeError::Member(error) => Self::of_source(error),
                ServeError::Stalled(_) => Self::Stalled,
                ServeError::Deadline(_) => Self::Deadline,
                ServeError::Broken(_) => Self::Internal,
            });
        }
        if error.is::<crate::app::topics::Unfit>() {
            return Some(Self::Topics);
        }
        if let Some(error) = error.downcast_ref::<FleetError>() {
            return Some(match error {
                FleetError::Deadline { .. } => Self::Deadline,
                FleetError::Broken(_) => Self::Internal,
                FleetError::Hung { .. }
                | FleetError::Worker {
                    error: EngineError::Stalled { .. } | EngineError::Disconnected { .. }, ..
                } => Self::Stalled,
                FleetError::Worker { error: EngineError::Identity { .. }, .. } => Self::Config,
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
        // A sink fails because the broker does not respond or refuses.
        (error.is::<SinkError>() || error.is::<EmbeddedError>()).then_some(Self::Broker)
    }

    fn of_source(error: &SourceError) -> Self {
        match error {
            SourceError::Settings { .. } => Self::Config,
            SourceError::Unreachable { .. } | SourceError::Fenced { .. } | SourceError::Fatal { .. } => Self::Broker,
        }
    }
}

/// A failure of a command with its own exit code.
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
    fn an_io_error_decides_the_code_however_deeply_it_is_nested() {
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
            let error = ConfigLoadError::Unreadable { path: "a.toml".into(), error: kind.into() };
            assert_eq!(Exit::of(&error.into()), exit, "{kind}");
        }
        let bug = ConfigLoadError::Bug { path: "a.toml".into(), words: "index out of bounds".to_owned() };
        assert_eq!(Exit::of(&bug.into()), Exit::Internal);
    }

    #[test]
    fn the_codes_are_listed_in_ascending_order() {
        assert!(Exit::ALL.windows(2).all(|pair| (pair[0].0 as u8) < pair[1].0 as u8));
    }
}
