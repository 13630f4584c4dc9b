//! Pseudonyms in place of the ids of a row.

use super::{Column, KeyType, RejectReason, Rejection, Role, Rows, Text};
use crate::event::pseudonym::{PSEUDONYM_BYTES, Pseudonyms};

impl Rows<'_> {
    /// What names the row's user: the id, or with pseudonyms that of the id, which then also replaces the ids in the columns.
    pub(super) fn named(&mut self, ty: KeyType, id: Text) -> Result<Text, Rejection> {
        let rules = self.rules;
        let Some(pseudonyms) = &rules.pseudonyms else { return Ok(id) };
        let named = self.pseudonym(pseudonyms, ty, id)?;
        let (user, anonymous) = (self.row.user, self.row.anonymous);
        self.replace(Role::User, if user.is_missing() { Text::MISSING } else { named });
        if rules.slot_of(Role::Anonymous).is_some() {
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
