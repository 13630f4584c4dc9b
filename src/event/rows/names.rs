//! Pseudonyms in place of the ids of a row.

use super::{Column, KeyType, RejectReason, Rejection, Role, Rows, Text, hash_key};
use crate::event::{
    OtherName,
    pseudonym::{PSEUDONYM_BYTES, Pseudonyms},
};

impl Rows<'_> {
    /// What names the row's user: the id, or with pseudonyms that of the id, which then also replaces the ids in the columns.
    pub(super) fn named(&mut self, ty: KeyType, id: Text) -> Result<Text, Rejection> {
        let Some(pseudonyms) = self.rules.names().0 else { return Ok(id) };
        let named = self.pseudonym(pseudonyms, ty, id)?;
        let (user, anonymous) = (self.row.user, self.row.anonymous);
        self.replace(Role::User, if user.is_missing() { Text::MISSING } else { named });
        if self.rules.slot_of(Role::Anonymous).is_some() {
            let other = if anonymous.is_missing() {
                anonymous
            } else if user.is_missing() {
                named
            } else {
                self.pseudonym(pseudonyms, KeyType::Device, anonymous)?
            };
            self.replace(Role::Anonymous, other);
        }
        Ok(named)
    }

    /// What names the event in decisions: its id if that is a UUID, and otherwise with pseudonyms a keyed hash of it. Producers
    /// often make such ids of the user's, as in `ann@shop.example-17`, or of anything else.
    pub(super) fn nameless(&mut self, event_id: Text) -> Text {
        let Some(pseudonyms) = self.rules.names().0 else { return event_id };
        let hash = self.nameless_by(pseudonyms, event_id);
        if hash != event_id {
            self.replace(Role::EventId, hash);
        }
        hash
    }

    fn nameless_by(&mut self, pseudonyms: &Pseudonyms, event_id: Text) -> Text {
        let texts = &mut self.batch.columns.texts;
        if event_id.is_missing() || is_uuid(texts.bytes(event_id)) {
            return event_id;
        }
        let mut to = [0; PSEUDONYM_BYTES];
        let hash = pseudonyms.hash(texts.bytes(event_id), &mut to);
        texts.push(hash)
    }

    /// What the row has by the other key, while users move from one to the other. The ids are as they came.
    pub(super) fn other_name(&mut self, ty: KeyType, id: Text, event_id: Text) -> Result<Option<OtherName>, Rejection> {
        let Some(pseudonyms) = self.rules.names().1 else { return Ok(None) };
        let ty = if self.rules.joins_types { KeyType::Person } else { ty };
        let texts = &mut self.batch.columns.texts;
        let mut to = [0; PSEUDONYM_BYTES];
        let found = pseudonyms.write(ty, texts.get(id), self.buffer, &mut to);
        let found = found.map_err(|error| Rejection::new(RejectReason::WrongType, format!("user_id: {error}")))?;
        let user = match ty.before(found) {
            None => texts.push(found),
            Some(prefix) => {
                self.buffer.clear();
                self.buffer.push_str(prefix);
                self.buffer.push_str(found);
                texts.push(self.buffer)
            }
        };
        let user_hash = hash_key(texts.bytes(user));
        Ok(Some(OtherName { user, user_hash, event_id: self.nameless_by(pseudonyms, event_id) }))
    }

    fn pseudonym(&mut self, pseudonyms: &Pseudonyms, ty: KeyType, id: Text) -> Result<Text, Rejection> {
        if let Some((of, of_ty, known)) = self.known
            && (of, of_ty) == (id, ty)
        {
            return Ok(known);
        }
        let texts = &mut self.batch.columns.texts;
        let mut to = [0; PSEUDONYM_BYTES];
        let found = pseudonyms.write(ty, texts.get(id), self.buffer, &mut to);
        let found = found.map_err(|error| Rejection::new(RejectReason::WrongType, format!("user_id: {error}")))?;
        let pseudonym = texts.push(found);
        self.known = Some((id, ty, pseudonym));
        Ok(pseudonym)
    }

    fn replace(&mut self, role: Role, text: Text) {
        let row = self.batch.len();
        if let Some(slot) = self.rules.slot_of(role)
            && let Column::String(values) = self.batch.columns.get_mut(slot)
        {
            values[row] = text;
        }
    }
}

/// Whether this is a UUID: 32 hexadecimal digits, with four hyphens or without.
fn is_uuid(id: &[u8]) -> bool {
    let is_part = |part: &[u8]| part.iter().all(u8::is_ascii_hexdigit);
    match id.len() {
        32 => is_part(id),
        36 => {
            let mut parts = id.split(|byte| *byte == b'-');
            [8, 4, 4, 4, 12]
                .iter()
                .all(|length| parts.next().is_some_and(|part| part.len() == *length && is_part(part)))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_uuid;

    #[test]
    fn a_uuid_is_told_from_other_ids() {
        for (id, is) in [
            ("4aae6dff-9d92-4c83-8001-00000000002a", true),
            ("4AAE6DFF9D924C83800100000000002A", true),
            ("4aae6dff-9d92-4c83-8001-00000000002g", false),
            ("4aae6dff9-d92-4c83-8001-00000000002a", false),
            ("ann@shop.example-17", false),
            ("4929123412341234", false),
            ("", false),
        ] {
            assert_eq!(is_uuid(id.as_bytes()), is, "{id}");
        }
    }
}
