//! The messages of `proto/aimpoint/v1`, as prost makes them.

/// Version 1 of the messages.
pub mod v1 {
    #![expect(missing_docs, clippy::pedantic, reason = "generated; the messages are explained in their .proto files")]
    include!(concat!(env!("OUT_DIR"), "/aimpoint.v1.rs"));
}
