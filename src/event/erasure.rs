//! Requests to erase a user, as records of the input: a header marks them, so they need no format.
//!
//! The record's key is the user's key, and its timestamp is the time of the erasure. A timestamp
//! further in the future than an event may be is brought back, because otherwise the user's events would be ignored until
//! then. The payload is ignored. Requests that others write have the id in the key, and with pseudonyms it becomes one here. Those
//! of `aimpoint erase` have the pseudonym.

use super::{
    ERASE_VERSION, ERASE_VERSION_EXACT, EventBatch, EventTime, OtherName, Position, Pseudonyms, Record, RejectReason,
    Rejection, decode::Decoded, key::key_of, key::split_key, rows::USER_BYTES_MAX,
};
use crate::{
    columns::{Slot, Text},
    state::hash_key,
};
use std::borrow::Cow;

/// Adds the request as a row of its own, in which all fields of `slots` are missing.
///
/// # Errors
/// Why the record is rejected; the batch is unchanged.
pub(super) fn read(
    version: &[u8],
    record: &Record<'_>,
    ceiling: Option<i64>,
    slots: impl Iterator<Item = Slot>,
    (pseudonyms, others): (Option<&Pseudonyms>, Option<&Pseudonyms>),
    batch: &mut EventBatch,
) -> Result<Decoded, Rejection> {
    let is_exact = version == ERASE_VERSION_EXACT.as_bytes();
    if version != ERASE_VERSION.as_bytes() && !is_exact {
        return Err(Rejection::new(
            RejectReason::Malformed,
            format!(
                "a request to erase a user of a version that is neither {ERASE_VERSION} nor {ERASE_VERSION_EXACT}: was it written by a later release?"
            ),
        ));
    }
    let key = record.key.map(std::str::from_utf8).and_then(Result::ok).filter(|key| !key.trim().is_empty());
    let Some(key) = key.filter(|key| key.len() <= USER_BYTES_MAX) else {
        return Err(Rejection::new(
            RejectReason::MissingUser,
            format!("a request to erase a user whose key is not text of 1 to {USER_BYTES_MAX} bytes"),
        ));
    };
    let named = |pseudonyms: &Pseudonyms| {
        let (ty, id) = split_key(key);
        let pseudonym = pseudonyms.of(ty, id).map_err(|error| {
            Rejection::new(RejectReason::WrongType, format!("a request to erase a user by its key: {error}"))
        })?;
        Ok::<_, Rejection>(key_of(ty, &pseudonym).into_owned())
    };
    let other = others.filter(|_| !is_exact).map(named).transpose()?;
    let key = match pseudonyms.filter(|_| !is_exact) {
        None => Cow::Borrowed(key),
        Some(pseudonyms) => Cow::Owned(named(pseudonyms)?),
    };
    let Some(millis) = record.timestamp_ms.filter(|millis| *millis >= 0) else {
        return Err(Rejection::new(RejectReason::MissingTime, "a request to erase a user without a timestamp"));
    };
    if batch.columns.texts.is_full() {
        return Err(Rejection::new(RejectReason::TooLarge, "the batch has no room for more text"));
    }
    let time = millis.saturating_mul(1_000).min(ceiling.unwrap_or(i64::MAX)).clamp(0, super::rows::TIME_MAX);
    let row = batch.len();
    for slot in slots {
        batch.columns.get_mut(slot).resize(row + 1);
    }
    let user = batch.columns.texts.push(&key);
    let traceparent = record.traceparent.map_or(Text::MISSING, |text| batch.columns.texts.push(text));
    batch.positions.push(Position { partition: record.partition, offset: record.offset, index: 0 });
    batch.users.push(user);
    batch.user_hashes.push(hash_key(key.as_bytes()));
    batch.event_ids.push(Text::MISSING);
    batch.times.push(EventTime(time));
    batch.logged_at.push(record.logged_at());
    batch.traceparents.push(traceparent);
    if others.is_some() {
        batch.others.push(other.map_or(OtherName::NONE, |other| OtherName {
            user: batch.columns.texts.push(&other),
            user_hash: hash_key(other.as_bytes()),
            event_id: Text::MISSING,
        }));
    }
    batch.erasures.push(row);
    Ok(Decoded { rows: 1, bots: 0 })
}
