//! Secrets, and their removal from messages.
//!
//! Owns the type [`Secret`] and the list of all secrets given to this process. [`scrub`] removes them from messages of any origin,
//! because librdkafka, ONNX Runtime and the operating system may quote their input anywhere. Logs and errors pass through it. The list
//! is a second line of defence: a [`Secret`] is never printed in the first place. Limits: strings of fewer than four characters and
//! numbers of fewer than six digits are too short to search for.

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Visitor},
};
use std::{
    borrow::Cow,
    fmt,
    fs::File,
    io::{self, Read},
    path::Path,
    sync::{PoisonError, RwLock},
};

/// The replacement for a secret.
pub const STARS: &str = "***";

/// Shorter strings would match everywhere in a message.
const LETTERS_MIN: usize = 4;
const DIGITS_MIN: usize = 6;

/// Shorter parts of a secret, such as the `scope=` in a token's settings, reveal nothing.
const PART_MIN: usize = 8;

/// The largest file of a secret. Keys and tokens are much shorter, so a larger file was named by mistake.
const FILE_BYTES_MAX: u64 = 4 << 10;

/// Words in a key's name that mark its value as a secret.
const WORDS: [&str; 14] = [
    "pass",
    "pwd",
    "secret",
    "token",
    "credential",
    "kinit",
    "oauth",
    "bearer",
    "pem",
    "private",
    "ssl.key",
    "apikey",
    "api_key",
    "jaas",
];

/// Strings to remove from messages, the longest first.
#[derive(Clone, Default)]
pub struct Known(Vec<String>);

/// The secrets of this process.
static KNOWN: RwLock<Known> = RwLock::new(Known(Vec::new()));

/// A secret string. It cannot be displayed, and is masked when serialized or formatted for debugging: [`Secret::reveal`] is the
/// only way to its text.
#[derive(Clone, PartialEq, Eq, JsonSchema)]
#[schemars(extend("format" = "password"))]
pub struct Secret(String);

impl Secret {
    /// Creates a secret, and removes it from all messages of this process from now on.
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        remember(&text);
        Self(text)
    }

    /// Reads a secret from a file that has it and nothing else, without the blanks around it.
    ///
    /// # Errors
    /// The file cannot be read, is not UTF-8, or is too large for a secret.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut bytes = Vec::new();
        File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            let message = format!("it has more than {FILE_BYTES_MAX} bytes, too many for a secret; name another file");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        // The error has no text of the file.
        let text =
            std::str::from_utf8(&bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))?;
        Ok(Self::new(text.trim()))
    }

    /// The plain text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STARS)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(STARS)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        // The default message for a wrong type quotes the value.
        fn refused<E: Error, T>() -> Result<T, E> {
            Err(E::custom("a secret is a string, so write it in quotes"))
        }

        impl<'de> Visitor<'de> for Text {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string in quotes")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret::new(text))
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<Secret, E> {
                refused()
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<Secret, E> {
                refused()
            }

            fn visit_u64<E: Error>(self, _: u64) -> Result<Secret, E> {
                refused()
            }

            fn visit_i128<E: Error>(self, _: i128) -> Result<Secret, E> {
                refused()
            }

            fn visit_u128<E: Error>(self, _: u128) -> Result<Secret, E> {
                refused()
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<Secret, E> {
                refused()
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, _: A) -> Result<Secret, A::Error> {
                refused()
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, _: A) -> Result<Secret, A::Error> {
                refused()
            }
        }

        deserializer.deserialize_any(Text)
    }
}

/// Whether a key of this name holds a secret, by the words in it. Callers should also treat unknown names as secrets, because a
/// password's key may be misspelt.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    WORDS.iter().any(|word| name.contains(word))
}

impl Known {
    /// Registers a string and its parts: the lines of a certificate, the words of a command.
    pub fn remember(&mut self, text: &str) {
        let text = text.trim();
        let mut parts = vec![text.to_owned()];
        // As it appears when quoted in logs and messages.
        let quoted = format!("{text:?}");
        parts.push(quoted[1..quoted.len() - 1].to_owned());
        parts.push(text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"));
        let ends = |letter: char| letter.is_whitespace() || matches!(letter, ',' | ';' | '=' | '&' | '"' | '\'');
        parts.extend(text.split(ends).filter(|part| part.len() >= PART_MIN).map(str::to_owned));
        for part in parts {
            let is_number = part.bytes().all(|letter| letter.is_ascii_digit());
            // The marker lines of a certificate are not secret.
            let says_nothing = part == STARS || part.contains("-----") && !part.contains('\n');
            let is_long = part.chars().count() >= if is_number { DIGITS_MIN } else { LETTERS_MIN };
            if is_long && !says_nothing && !self.0.contains(&part) {
                self.0.push(part);
            }
        }
        self.0.sort_by_key(|part| std::cmp::Reverse(part.len()));
    }

    /// Removes these strings from a message, and the credentials from URLs.
    pub fn scrub<'a>(&self, message: &'a str) -> Cow<'a, str> {
        let mut clean = without_credentials(message);
        for secret in &self.0 {
            if clean.contains(secret.as_str()) {
                clean = Cow::Owned(replaced(&clean, secret));
            }
        }
        clean
    }
}

/// Shows only their number.
impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

/// Removes this string from all messages of the process from now on ([`Known::remember`]).
pub fn remember(text: &str) {
    KNOWN.write().unwrap_or_else(PoisonError::into_inner).remember(text);
}

/// Removes the secrets of this process from a message, and the credentials from URLs.
pub fn scrub(message: &str) -> Cow<'_, str> {
    KNOWN.read().unwrap_or_else(PoisonError::into_inner).scrub(message)
}

/// Replaces a secret. A number is replaced only as a whole, because its digits may occur in other numbers.
fn replaced(message: &str, secret: &str) -> String {
    if !secret.bytes().all(|letter| letter.is_ascii_digit()) {
        return message.replace(secret, STARS);
    }
    let mut clean = String::with_capacity(message.len());
    let mut end = 0;
    for (start, _) in message.match_indices(secret) {
        let is_digit = |letter: Option<&u8>| letter.is_some_and(u8::is_ascii_digit);
        let before = start.checked_sub(1).and_then(|at| message.as_bytes().get(at));
        if !is_digit(before) && !is_digit(message.as_bytes().get(start + secret.len())) {
            clean.push_str(&message[end..start]);
            clean.push_str(STARS);
            end = start + secret.len();
        }
    }
    clean.push_str(&message[end..]);
    clean
}

/// `https://user:password@host` as `https://***@host`.
fn without_credentials(message: &str) -> Cow<'_, str> {
    let mut clean = String::new();
    let mut end = 0;
    for (start, scheme) in message.match_indices("://") {
        let start = start + scheme.len();
        let ends = |letter: char| letter.is_whitespace() || matches!(letter, '/' | '?' | '#' | '"' | '\'' | '<' | '>');
        let authority = message[start..].split(ends).next().unwrap_or_default();
        if let Some(at) = authority.rfind('@')
            && start >= end
        {
            clean.push_str(&message[end..start]);
            clean.push_str(STARS);
            end = start + at;
        }
    }
    if end == 0 {
        return Cow::Borrowed(message);
    }
    clean.push_str(&message[end..]);
    Cow::Owned(clean)
}

/// A writer that removes secrets from each message.
#[derive(Debug)]
pub struct Scrubbed<W>(pub W);

impl<W: std::io::Write> std::io::Write for Scrubbed<W> {
    /// A message is written in one piece.
    fn write(&mut self, message: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(message);
        match scrub(&text) {
            Cow::Borrowed(_) => self.0.write_all(message)?,
            Cow::Owned(clean) => self.0.write_all(clean.as_bytes())?,
        }
        Ok(message.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use static_assertions::assert_not_impl_any;
    use std::{borrow::Borrow, ops::Deref};

    // Whoever uses a secret has to say so: it does not compile as text, nor as a part of a message.
    assert_not_impl_any!(Secret: fmt::Display, Deref, AsRef<str>, AsRef<[u8]>, Borrow<str>, Into<String>, Into<Vec<u8>>, fmt::LowerHex, IntoIterator);

    #[test]
    fn a_secret_is_masked_in_every_format_and_in_messages_of_others() {
        let secret = Secret::new("c4nary-\"one\"\\two");
        assert_eq!(format!("{secret:?} {secret:#?}"), "*** ***");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
        for message in [
            format!("refused: {}", secret.reveal()),
            format!("refused: {:?}", secret.reveal()),
            serde_json::to_string(secret.reveal()).unwrap(),
        ] {
            assert!(!scrub(&message).contains("c4nary"), "{message}");
        }
        assert_eq!(Known::default().scrub("nothing is in here"), "nothing is in here");
    }

    #[test]
    fn a_file_of_a_secret_is_read_whole_or_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let read = |bytes: &[u8]| {
            std::fs::write(file.path(), bytes).unwrap();
            Secret::read(file.path()).map(|it| it.reveal().to_owned()).map_err(|error| error.to_string())
        };
        assert_eq!(read(b" 0123456789abcdef \n").unwrap(), "0123456789abcdef");
        let largest = "é".repeat(2_048);
        assert_eq!(read(largest.as_bytes()).unwrap(), largest);
        let told = read(format!("{largest}\n").as_bytes()).unwrap_err();
        assert!(told.contains("more than 4096 bytes"), "{told}");
        let told = read(b"0123456789abcdef\xff").unwrap_err();
        assert_eq!(told, "it is not UTF-8");
    }

    #[test]
    fn lines_of_a_key_and_words_of_a_command_are_removed_individually() {
        let mut known = Known::default();
        known
            .remember("-----BEGIN PRIVATE KEY-----\nMIIc4naryLineOne\nMIIc4naryLineTwo==\n-----END PRIVATE KEY-----\n");
        known.remember("scope=c4naryScope lifeSeconds=3600");
        assert_eq!(known.scrub("read MIIc4naryLineTwo: bad"), "read ***: bad");
        assert_eq!(known.scrub("unrecognized beginning at: scope=c4naryScope"), "unrecognized beginning at: scope=***");
        assert_eq!(known.scrub("-----BEGIN PRIVATE KEY-----"), "-----BEGIN PRIVATE KEY-----");
        assert_eq!(format!("{known:?}"), format!("{} secrets", known.0.len()));
    }

    #[test]
    fn a_number_is_removed_only_as_a_whole() {
        let mut known = Known::default();
        known.remember("73519264");
        assert_eq!(known.scrub("value 73519264, offset 1735192640"), "value ***, offset 1735192640");
    }

    #[test]
    fn credentials_are_removed_from_urls() {
        for (message, clean) in [
            ("send to http://ann:c4n@host:4318/v1", "send to http://***@host:4318/v1"),
            ("a://u@h b://v@i", "a://***@h b://***@i"),
            ("http://host/a@b", "http://host/a@b"),
            ("no address: a@b", "no address: a@b"),
        ] {
            assert_eq!(Known::default().scrub(message), clean);
        }
    }

    #[test]
    fn a_secret_of_another_type_is_rejected_without_showing_it() {
        for text in ["secret = 73519265", "secret = 7351.9265", "secret = true", "secret = [\"c4naryList\"]"] {
            let error = toml::from_str::<std::collections::BTreeMap<String, Secret>>(text).unwrap_err();
            assert_eq!(error.message().trim(), "a secret is a string, so write it in quotes", "{text}");
        }
    }
}
