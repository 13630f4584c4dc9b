//! Pseudonyms: behind the input, a user is named by a keyed hash in place of the id.
//!
//! Owns how an id becomes the key of a user in profiles, topics and answers ([`UserKeys`]), with pseudonyms or without. The
//! pseudonym of an id is its HMAC-SHA-256 in base64url without padding: 43 letters, digits, `-` and `_`. The type of the id
//! stays readable in front of it, as it does without pseudonyms.
//!
//! Guarantees: the same id and type give the same key in events, requests to erase, bid requests and on the command line.
//! Whoever has the key can compute a pseudonym with any tool; without it, an id cannot be tried out. Nothing is allocated for
//! an event. While the key changes, a user is known by the pseudonyms of both keys ([`UserKeys::all_sought`]), so that what is kept
//! under the previous one can move. Limits: only the ids that name users are replaced, and ids of events that are no UUIDs. Another
//! field that holds an id is the mapping's business.

mod normalise;
mod spec;

pub use spec::{Normalise, PseudonymSpec};

use super::key::{KeyType, key_of, split_key};
use crate::secret::Secret;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::borrow::Cow;

/// The length of a pseudonym: 32 bytes in base64.
pub const PSEUDONYM_BYTES: usize = 43;

/// The text whose hash is the id of a key. No user's id has this byte.
const KEY_ID: &[u8] = b"\xffaimpoint key";

/// Computes pseudonyms.
#[derive(Clone, Debug)]
pub struct Pseudonyms {
    /// With the key mixed in, which saves half of the work for each id.
    hash: Hmac<Sha256>,
    normalise: Normalise,
    country_code: Option<String>,
}

/// Why an id has no pseudonym: it is not what `identity.normalise` says. What it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {0} (identity.normalise)")]
pub struct NotNormal(pub &'static str);

impl Pseudonyms {
    /// What the section declares; `None` if ids are kept, or if the section has no key, which its check reports.
    pub fn new(spec: &PseudonymSpec) -> Option<Self> {
        Some(Self::by(spec, spec.key.as_ref().filter(|_| spec.pseudonymise)?))
    }

    /// By the previous key, if users move from one.
    pub fn previous(spec: &PseudonymSpec) -> Option<Self> {
        Some(Self::by(spec, spec.previous_key.as_ref().filter(|_| spec.pseudonymise)?))
    }

    fn by(spec: &PseudonymSpec, key: &Secret) -> Self {
        let hash = Hmac::new_from_slice(key.reveal().as_bytes()).expect("a key of any length will do");
        Self { hash, normalise: spec.normalise, country_code: spec.country_code.clone() }
    }

    /// What tells this key from another, without showing anything of it.
    pub fn key_id(&self) -> u64 {
        let mut hash = self.hash.clone();
        hash.update(KEY_ID);
        u64::from_be_bytes(*hash.finalize().into_bytes().first_chunk().expect("it has 32 bytes"))
    }

    /// Writes the pseudonym of an id to `to`. `buffer` is for the normalised id. Ids of persons are normalised.
    ///
    /// # Errors
    /// If the id cannot be normalised.
    pub(super) fn write<'a>(
        &self,
        ty: KeyType,
        id: &str,
        buffer: &mut String,
        to: &'a mut [u8; PSEUDONYM_BYTES],
    ) -> Result<&'a str, NotNormal> {
        buffer.clear();
        match self.normalise {
            _ if ty != KeyType::Person => return Ok(self.hash(id.as_bytes(), to)),
            Normalise::None => return Ok(self.hash(id.as_bytes(), to)),
            Normalise::Email => normalise::email(id, buffer)?,
            Normalise::Phone => normalise::phone(id, self.country_code.as_deref(), buffer)?,
        }
        Ok(self.hash(buffer.as_bytes(), to))
    }

    pub(super) fn hash<'a>(&self, bytes: &[u8], to: &'a mut [u8; PSEUDONYM_BYTES]) -> &'a str {
        let mut hash = self.hash.clone();
        hash.update(bytes);
        let written = URL_SAFE_NO_PAD.encode_slice(hash.finalize().into_bytes(), to);
        debug_assert_eq!(written, Ok(PSEUDONYM_BYTES));
        std::str::from_utf8(to).expect("base64 is text")
    }

    /// The pseudonym of an id.
    ///
    /// # Errors
    /// If the id cannot be normalised.
    pub fn of(&self, ty: KeyType, id: &str) -> Result<String, NotNormal> {
        let mut to = [0; PSEUDONYM_BYTES];
        self.write(ty, id, &mut String::new(), &mut to).map(str::to_owned)
    }

    /// What stands for an id of something else: a keyed hash, without normalisation.
    pub fn opaque(&self, bytes: &[u8]) -> String {
        self.hash(bytes, &mut [0; PSEUDONYM_BYTES]).to_owned()
    }

    /// What stands for bytes that may name a user, such as a record's key: their pseudonym as a person's id, or without
    /// normalisation if that is not possible.
    pub fn of_bytes(&self, bytes: &[u8]) -> String {
        let normal = std::str::from_utf8(bytes).ok().and_then(|id| self.of(KeyType::Person, id).ok());
        normal.unwrap_or_else(|| self.hash(bytes, &mut [0; PSEUDONYM_BYTES]).to_owned())
    }
}

/// How users are named behind the input: by their ids, or by pseudonyms.
#[derive(Clone, Debug, Default)]
pub struct UserKeys {
    /// Whether ids of all types are one space.
    joined: bool,
    pseudonyms: Option<Pseudonyms>,
    /// By the previous key, while users move from it.
    previous: Option<Pseudonyms>,
}

impl UserKeys {
    /// The names that a configuration declares.
    pub fn new(spec: &PseudonymSpec, joined: bool) -> Self {
        Self { joined, pseudonyms: Pseudonyms::new(spec), previous: Pseudonyms::previous(spec) }
    }

    /// The same with the previous key alone, while users move from it.
    pub fn previous(&self) -> Option<Self> {
        let previous = self.previous.clone()?;
        Some(Self { joined: self.joined, pseudonyms: Some(previous), previous: None })
    }

    /// The keys of the user with this id: that behind the input, and while users move from a previous key, theirs before that.
    ///
    /// # Errors
    /// If the id cannot be normalised, so that no event has this user.
    pub fn all_of(&self, ty: KeyType, id: &str) -> Result<Vec<String>, NotNormal> {
        let mut keys = vec![self.of(ty, id)?.into_owned()];
        if let Some(previous) = self.previous() {
            keys.push(previous.of(ty, id)?.into_owned());
        }
        Ok(keys)
    }

    /// The keys to look for: as [`Self::sought`], and while users move from a previous key, that by it.
    pub fn all_sought(&self, ty: KeyType, id: &str) -> Vec<String> {
        let mut keys = vec![self.sought(ty, id).into_owned()];
        keys.extend(self.previous().map(|previous| previous.sought(ty, id).into_owned()));
        keys
    }

    /// The pseudonyms, if there are any.
    pub fn pseudonyms(&self) -> Option<&Pseudonyms> {
        self.pseudonyms.as_ref()
    }

    /// The key of the user with this id.
    ///
    /// # Errors
    /// If the id cannot be normalised, so that no event has this user.
    pub fn of<'a>(&self, ty: KeyType, id: &'a str) -> Result<Cow<'a, str>, NotNormal> {
        let ty = if self.joined { KeyType::Person } else { ty };
        match &self.pseudonyms {
            None => Ok(key_of(ty, id)),
            Some(pseudonyms) => Ok(Cow::Owned(key_of(ty, &pseudonyms.of(ty, id)?).into_owned())),
        }
    }

    /// The key to look for: that of the user with this id, or one that no user has.
    pub fn sought<'a>(&self, ty: KeyType, id: &'a str) -> Cow<'a, str> {
        self.of(ty, id).unwrap_or_else(|_| {
            let hash = self.pseudonyms.as_ref().map(|it| it.of_bytes(id.as_bytes())).unwrap_or_default();
            Cow::Owned(key_of(ty, &hash).into_owned())
        })
    }

    /// The key to look for, of a user whose key without pseudonyms would be this one.
    pub fn sought_by_key<'a>(&self, key: &'a str) -> Cow<'a, str> {
        if self.pseudonyms.is_none() {
            return Cow::Borrowed(key);
        }
        let (ty, id) = split_key(key);
        self.sought(ty, id)
    }
}

#[cfg(test)]
mod tests;
