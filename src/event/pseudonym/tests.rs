use super::*;
use crate::secret::Secret;

const KEY: &str = "a key of thirty-two bytes or more";

fn spec(normalise: Normalise, country_code: Option<&str>) -> PseudonymSpec {
    PseudonymSpec {
        pseudonymise: true,
        key: Some(Secret::new(KEY)),
        normalise,
        country_code: country_code.map(str::to_owned),
        ..PseudonymSpec::default()
    }
}

fn normal(normalise: Normalise, country_code: Option<&str>, id: &str) -> Option<String> {
    let mut to = String::new();
    let outcome = match normalise {
        Normalise::None => return Some(id.to_owned()),
        Normalise::Email => normalise::email(id, &mut to),
        Normalise::Phone => normalise::phone(id, country_code, &mut to),
    };
    outcome.ok().map(|()| to)
}

#[test]
fn a_pseudonym_is_what_other_tools_compute() {
    // printf %s ann@example.com | openssl dgst -sha256 -hmac "$KEY" -binary | basenc --base64url | tr -d =
    let pseudonyms = Pseudonyms::new(&spec(Normalise::None, None)).unwrap();
    assert_eq!(
        pseudonyms.of(KeyType::Person, "ann@example.com").unwrap(),
        "7SydUjZpMoXafyC0kWTusRCqX073cQiTh2pSNm2Ubu0"
    );
    let email = Pseudonyms::new(&spec(Normalise::Email, None)).unwrap();
    assert_eq!(email.of(KeyType::Person, "  Ann@Example.COM ").unwrap(), "7SydUjZpMoXafyC0kWTusRCqX073cQiTh2pSNm2Ubu0");
    let phone = Pseudonyms::new(&spec(Normalise::Phone, Some("49"))).unwrap();
    // printf %s 4930123456 | …
    assert_eq!(phone.of(KeyType::Person, "030 / 12 34 56").unwrap(), "gFNn5Mny9i-hp0w8VZoKlDagoSQJwNXICZEDljfO5bo");
}

#[test]
fn e_mail_addresses_are_trimmed_and_in_lower_case() {
    for (id, expected) in [
        (" Ann.Lee+News@Example.COM\t", Some("ann.lee+news@example.com")),
        ("ann@example.com", Some("ann@example.com")),
        ("ÄNNE@Köln.example", Some("änne@köln.example")),
        ("\"a@b\"@example.com", Some("\"a@b\"@example.com")),
        ("ann lee@example.com", None),
        ("ann", None),
        ("@example.com", None),
        ("ann@", None),
        ("", None),
    ] {
        assert_eq!(normal(Normalise::Email, None, id).as_deref(), expected, "{id:?}");
    }
}

#[test]
fn phone_numbers_become_the_digits_of_e164() {
    for (code, id, expected) in [
        (Some("49"), "+49 (0)30 12 34 56", Some("4930123456")),
        (Some("49"), "0049 30 123456", Some("4930123456")),
        (Some("49"), "030/123456", Some("4930123456")),
        (Some("49"), "+1 (650) 555-1212", Some("16505551212")),
        (Some("1"), "(650) 555-1212", Some("16505551212")),
        (Some("1"), "1-650-555-1212", Some("16505551212")),
        (Some("44"), "07400 123456", Some("447400123456")),
        (Some("39"), "06 1234 5678", Some("390612345678")),
        (None, "+44 7400 123456", Some("447400123456")),
        (None, "447400123456", Some("447400123456")),
        (None, "07400 123456", None),
        (Some("49"), "+0 12345678", None),
        (Some("49"), "12", None),
        (Some("49"), "+1234567890123456", None),
        (Some("49"), "1-800-FLOWERS", None),
        (Some("49"), "ann@example.com", None),
        (Some("49"), "", None),
    ] {
        assert_eq!(normal(Normalise::Phone, code, id).as_deref(), expected, "{code:?} {id:?}");
    }
}

#[test]
fn only_ids_of_persons_are_normalised_and_types_stay_apart() {
    let keys = UserKeys::new(&spec(Normalise::Email, None), false);
    assert_eq!(keys.of(KeyType::Person, "A@b").unwrap(), keys.of(KeyType::Person, "a@B ").unwrap());
    assert_ne!(keys.of(KeyType::Device, "A@b").unwrap(), keys.of(KeyType::Device, "a@b").unwrap());
    assert_eq!(keys.of(KeyType::Person, "no address"), Err(NotNormal("an e-mail address")));
    let device = keys.of(KeyType::Device, "no address").unwrap().into_owned();
    assert_eq!(device.strip_prefix("device:").map(str::len), Some(PSEUDONYM_BYTES));
    assert_eq!(keys.sought_by_key("device:no address"), device);
    assert_eq!(keys.sought(KeyType::Person, "no address").len(), PSEUDONYM_BYTES, "nobody has this key");

    let joined = UserKeys::new(&spec(Normalise::None, None), true);
    assert_eq!(joined.of(KeyType::Device, "5").unwrap(), joined.of(KeyType::Person, "5").unwrap());
    let plain = UserKeys::default();
    assert_eq!(plain.of(KeyType::Device, "5").unwrap(), "device:5");
    assert_eq!(plain.sought_by_key("device:5"), "device:5");
}

#[test]
fn another_key_gives_another_pseudonym() {
    let other = PseudonymSpec { key: Some(Secret::new(format!("{KEY}!"))), ..spec(Normalise::None, None) };
    let [one, two] = [&spec(Normalise::None, None), &other].map(|spec| Pseudonyms::new(spec).unwrap().of_bytes(b"ann"));
    assert_ne!(one, two);
    assert!(Pseudonyms::new(&PseudonymSpec { pseudonymise: false, ..other }).is_none());
}

#[test]
fn what_cannot_work_is_refused_with_the_next_step() {
    let faults = |spec: &PseudonymSpec| {
        let mut errors = Vec::new();
        spec.check(&mut errors);
        errors.into_iter().map(|it| format!("{}: {}", it.key, it.message)).collect::<Vec<_>>()
    };
    assert_eq!(faults(&spec(Normalise::Phone, Some("49"))), [""; 0]);
    assert_eq!(faults(&PseudonymSpec::default()), [""; 0]);
    let bare = PseudonymSpec { pseudonymise: true, ..PseudonymSpec::default() };
    assert_eq!(faults(&bare), ["identity.pseudonymise: pseudonyms need a key"]);
    let short = PseudonymSpec { key: Some(Secret::new("short-key-of-20-bytes")), ..bare.clone() };
    assert_eq!(faults(&short), ["identity.key: the key has fewer than 32 bytes"]);
    let turned = |key: &str| PseudonymSpec { previous_key: Some(Secret::new(key)), ..spec(Normalise::None, None) };
    assert_eq!(faults(&turned(&format!("{KEY}!"))), [""; 0]);
    assert_eq!(faults(&turned(KEY)), ["identity.previous_key: it is the same key as the present one"]);
    assert_eq!(faults(&turned("short")), ["identity.previous_key: the key has fewer than 32 bytes"]);
    let nowhere = PseudonymSpec { pseudonymise: false, ..turned(&format!("{KEY}!")) };
    assert_eq!(faults(&nowhere), ["identity.previous_key: users move from one pseudonym to another, and have none"]);
    let off = PseudonymSpec { normalise: Normalise::Email, ..PseudonymSpec::default() };
    assert_eq!(faults(&off), ["identity.normalise: ids are normalised only where they become pseudonyms"]);
    for code in ["049", "4a", "", "1234"] {
        let found = faults(&spec(Normalise::Phone, Some(code)));
        assert_eq!(found, [format!("identity.country_code: {code:?} is no country code")]);
    }
    let misplaced = faults(&spec(Normalise::Email, Some("49")));
    assert_eq!(misplaced, ["identity.country_code: only phone numbers have a country code"]);
}
