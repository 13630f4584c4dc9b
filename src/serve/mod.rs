//! Serve: answers about the latest decision of every user, without Kafka, a clock or threads.
//!
//! ```text
//! decisions ─► RecordReader ─► Store ─► a decision in JSON or Protobuf
//!                                ▲  ├─► Enricher ─► bid request with user.data[]
//!                                │  └─► Mutator ─► changes for a host of agents
//! bid request ─► who, and whether it is permitted
//! ```
//!
//! A driver reads the topic of decisions and passes each record to a [`RecordReader`] and its change to the [`Store`].
//! Meanwhile, it answers requests from the store. It need not keep a position: each start reads the topic from its start.
//!
//! Owns the latest decision per user, its forms, and what a bid request says of user and consent. See [`Store`],
//! [`Enricher`] and [`Mutator`] for what is guaranteed and what is bounded.

mod answer;
mod arena;
mod enrich;
mod identity;
mod json;
mod message;
mod mutate;
mod nulls;
mod permission;
mod record;
mod shard;
mod share;
mod signals;
mod snapshot;
mod spec;
mod store;
#[cfg(test)]
mod tests;

pub use enrich::{Enricher, Enrichment};
pub use json::Malformed;
pub use mutate::Mutator;
pub(crate) use mutate::empty_response;
#[cfg(any(test, feature = "testkit"))]
pub use mutate::example_request;
pub use record::{Change, RecordReader, Refusal};
pub use share::PartitionOf;
pub use snapshot::{
    Position, SNAPSHOT_START, SnapshotFault, SnapshotHead, SnapshotReader, is_snapshot, write_snapshot,
};
pub use spec::{
    AgentType, IdentityField, IdentitySpec, ServeGrpcSpec, ServePartitions, ServeProviderSpec, ServeSpec, ServeTlsSpec,
    TOKEN_FAULT, is_origin, is_token, origin_of,
};
pub use store::{EXPIRED_KEPT, Lookup, SHARDS, Sizes, Store, StoredDecision};
