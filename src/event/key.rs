//! The key of a user: an id and its type.
//!
//! Two ids with the same text but of different types are two users, so the type is part of the key of profiles,
//! changelog records and decisions. A person's key is the id itself. A device's is `device:` plus the id, an app's is
//! `app:` plus the id. A person's id that starts with one of these prefixes gets the prefix `person:`, so that no two
//! users share a key.

use std::borrow::Cow;

/// What a key identifies, after OpenRTB's agent types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum KeyType {
    /// A person, who may have several devices. The default for `user_id`.
    #[default]
    Person,
    /// A browser, a device or an installation. The default for `anonymous_id`.
    Device,
    /// An app.
    App,
}

impl KeyType {
    /// All types.
    pub const ALL: [Self; 3] = [Self::Person, Self::Device, Self::App];

    /// The name in expressions and in text for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Device => "device",
            Self::App => "app",
        }
    }

    /// The name in `aimpoint.v1.KeyType`.
    pub fn proto_name(self) -> &'static str {
        match self {
            Self::Person => "KEY_TYPE_PERSON",
            Self::Device => "KEY_TYPE_DEVICE",
            Self::App => "KEY_TYPE_APP",
        }
    }

    /// The prefix of this type in keys.
    fn prefix(self) -> &'static str {
        match self {
            Self::Person => "person:",
            Self::Device => "device:",
            Self::App => "app:",
        }
    }

    /// The number in `aimpoint.v1.KeyType`.
    pub fn number(self) -> i32 {
        match self {
            Self::Device => 1,
            Self::App => 2,
            Self::Person => 3,
        }
    }

    /// The type with this number.
    pub(super) fn of_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|ty| i64::from(ty.number()) == number)
    }

    /// The type with this name: `person`, or `KEY_TYPE_PERSON` as in Protobuf's JSON.
    pub fn named(name: &str) -> Option<Self> {
        let name = name.strip_prefix("KEY_TYPE_").unwrap_or(name);
        Self::ALL.into_iter().find(|ty| ty.as_str().eq_ignore_ascii_case(name))
    }

    /// The prefix needed for this id; `None` if the key is the id itself.
    pub(super) fn before(self, id: &str) -> Option<&'static str> {
        let is_plain = self == Self::Person && !Self::ALL.iter().any(|ty| id.starts_with(ty.prefix()));
        (!is_plain).then(|| self.prefix())
    }
}

/// The key of an id.
pub fn key_of(ty: KeyType, id: &str) -> Cow<'_, str> {
    match ty.before(id) {
        None => Cow::Borrowed(id),
        Some(prefix) => Cow::Owned([prefix, id].concat()),
    }
}

/// Splits a key into its type and id.
pub fn split_key(key: &str) -> (KeyType, &str) {
    let found = KeyType::ALL.into_iter().find_map(|ty| Some((ty, key.strip_prefix(ty.prefix())?)));
    found.unwrap_or((KeyType::Person, key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_key_is_of_one_id_and_one_type(
            one in "(person:|device:|app:|[a:]){0,3}[a-z0-9:]{0,4}", other in "(person:|device:|app:|[a:]){0,3}[a-z0-9:]{0,4}",
            types in (0_usize..3, 0_usize..3),
        ) {
            let (a, b) = (KeyType::ALL[types.0], KeyType::ALL[types.1]);
            let (key, another) = (key_of(a, &one), key_of(b, &other));
            prop_assert_eq!(split_key(&key), (a, one.as_str()));
            prop_assert_eq!(key == another, (a, &one) == (b, &other));
        }
    }

    #[test]
    fn a_persons_key_is_the_id_itself() {
        assert_eq!(key_of(KeyType::Person, "5"), "5");
        assert_eq!(key_of(KeyType::Device, "5"), "device:5");
        assert_eq!(key_of(KeyType::Person, "device:5"), "person:device:5");
        assert_eq!(KeyType::named("KEY_TYPE_APP"), Some(KeyType::App));
        assert_eq!((KeyType::named("Device"), KeyType::named("household")), (Some(KeyType::Device), None));
    }
}
