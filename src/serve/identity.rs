//! Which user a bid request is about.
//!
//! A request can name a user in several ways. They are tried in the order of the configuration. Each id is looked up only
//! among the users of its type: a person's id is never taken for a device's. If an id of `user.eids` declares an agent
//! type (`atype`), it must be the configured one.

use super::{
    json::{Malformed, Part},
    signals::pick,
    spec::{IdentityField, IdentitySpec},
};
use crate::{
    event::{KeyType, UserKeys},
    proto::iab::openrtb::bid_request::{Device, Eid, User},
};

/// The id of a device whose owner gives none.
const NO_IFA: &str = "00000000-0000-0000-0000-000000000000";

/// The ways in which users are named, in order.
#[derive(Clone, Debug)]
pub(super) struct Identities {
    specs: Vec<IdentitySpec>,
    /// How events named the users.
    users: UserKeys,
}

impl Identities {
    pub(super) fn new(specs: Vec<IdentitySpec>, users: UserKeys) -> Self {
        Self { specs, users }
    }

    /// The keys of the users that a request names, in order.
    ///
    /// # Errors
    /// If a part is no object, or has a member twice.
    pub(super) fn keys(&self, user: Option<Part<'_>>, device: Option<Part<'_>>) -> Result<Vec<String>, Malformed> {
        let [id, buyeruid, eids, ext] = pick(user, ["id", "buyeruid", "eids", "ext"])?;
        let [older_eids] = pick(ext, ["eids"])?;
        let [ifa] = pick(device, ["ifa"])?;
        let mut keys = Vec::new();
        for spec in &self.specs {
            let ty = spec.key_type.key_type();
            let plain = match spec.from {
                IdentityField::Buyeruid => buyeruid,
                IdentityField::UserId => id,
                IdentityField::Ifa => ifa,
                IdentityField::Eids => {
                    for eids in [eids, older_eids].into_iter().flatten() {
                        self.add_eids(eids, spec, &mut keys)?;
                    }
                    None
                }
            };
            if let Some(id) = plain.and_then(Part::text) {
                self.add(ty, &id, &mut keys);
            }
        }
        Ok(keys)
    }

    /// The keys of the users that a request in Protobuf names, in order.
    pub(super) fn keys_of_message(&self, user: Option<&User>, device: Option<&Device>) -> Vec<String> {
        let mut keys = Vec::new();
        for spec in &self.specs {
            let ty = spec.key_type.key_type();
            let plain = match spec.from {
                IdentityField::Buyeruid => user.map(|user| &user.buyeruid),
                IdentityField::UserId => user.map(|user| &user.id),
                IdentityField::Ifa => device.map(|device| &device.ifa),
                IdentityField::Eids => {
                    let older = user.and_then(|user| user.ext.as_ref()).map(|ext| &ext.eids);
                    for eid in user.map(|user| &user.eids).into_iter().chain(older).flatten() {
                        self.add_eid(eid, spec, &mut keys);
                    }
                    None
                }
            };
            if let Some(id) = plain {
                self.add(ty, id, &mut keys);
            }
        }
        keys
    }

    fn add_eid(&self, eid: &Eid, spec: &IdentitySpec, keys: &mut Vec<String>) {
        let ty = spec.key_type.key_type();
        if Some(eid.source.as_str()) != spec.source.as_deref() {
            return;
        }
        for uid in &eid.uids {
            if uid.atype.is_none_or(|agent| agent == ty.number()) {
                self.add(ty, &uid.id, keys);
            }
        }
    }

    fn add_eids(&self, eids: Part<'_>, spec: &IdentitySpec, keys: &mut Vec<String>) -> Result<(), Malformed> {
        let ty = spec.key_type.key_type();
        for eid in eids.items() {
            let [source, uids] = eid.pick(["source", "uids"])?;
            if source.and_then(Part::text).as_deref() != spec.source.as_deref() {
                continue;
            }
            for uid in uids.into_iter().flat_map(Part::items) {
                let [id, agent] = uid.pick(["id", "atype"])?;
                let fits = agent.is_none_or(|agent| agent.read::<i32>() == Some(ty.number()));
                if let Some(id) = id.and_then(Part::text).filter(|_| fits) {
                    self.add(ty, &id, keys);
                }
            }
        }
        Ok(())
    }

    fn add(&self, ty: KeyType, id: &str, keys: &mut Vec<String>) {
        if id.is_empty() || id == NO_IFA {
            return;
        }
        // An id that cannot be normalised names nobody. While the key of pseudonyms changes, one that has not moved yet has the
        // former name.
        let Ok(all) = self.users.all_of(ty, id) else { return };
        for key in all {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{event::PseudonymSpec, serve::spec::AgentType};

    fn keys(specs: &[(IdentityField, Option<&str>, AgentType)], joined: bool, request: &str) -> Vec<String> {
        let spec = |(from, source, key_type): &(IdentityField, Option<&str>, AgentType)| IdentitySpec {
            from: *from,
            source: source.map(str::to_owned),
            key_type: *key_type,
        };
        let identities =
            Identities::new(specs.iter().map(spec).collect(), UserKeys::new(&PseudonymSpec::default(), joined));
        let [user, device] = Part::of(request).unwrap().pick(["user", "device"]).unwrap();
        identities.keys(user, device).unwrap()
    }

    const REQUEST: &str = r#"{"user":{"id":"x1","buyeruid":"b\u0031","eids":[
        {"source":"a.example","uids":[{"id":"p","atype":3},{"id":"d","atype":1},{"id":"any"}]},
        {"source":"b.example","uids":[{"id":"other"}]}, {"source":"a.example"}],
        "ext":{"eids":[{"source":"a.example","uids":[{"id":"old","atype":3},{"id":7}]}]}},
        "device":{"ifa":"i-1"}}"#;

    #[test]
    fn users_are_named_in_the_declared_order_and_types_are_not_mixed() {
        use AgentType::{App, Device, Person};
        use IdentityField::{Buyeruid, Eids, Ifa, UserId};
        let all = [(Ifa, None, App), (Buyeruid, None, Person), (UserId, None, Device)];
        assert_eq!(keys(&all, false, REQUEST), ["app:i-1", "b1", "device:x1"]);
        assert_eq!(keys(&all, true, REQUEST), ["i-1", "b1", "x1"]);
        let eids = |ty| keys(&[(Eids, Some("a.example"), ty)], false, REQUEST);
        assert_eq!(eids(Person), ["p", "any", "old"]);
        assert_eq!(eids(Device), ["device:d", "device:any"]);
        assert_eq!(eids(App), ["app:any"]);
    }

    #[test]
    fn ids_that_say_nothing_name_nobody() {
        use AgentType::Device;
        use IdentityField::{Eids, Ifa, UserId};
        let all = [(Ifa, None, Device), (UserId, None, Device), (Eids, Some("a"), Device)];
        for request in [
            "{}",
            "{\"user\":null}",
            "{\"user\":{\"id\":\"\"},\"device\":{\"ifa\":\"00000000-0000-0000-0000-000000000000\"}}",
            "{\"user\":{\"id\":7,\"eids\":{}},\"device\":{\"ifa\":null}}",
        ] {
            assert_eq!(keys(&all, false, request), Vec::<String>::new(), "{request}");
        }
    }

    #[test]
    fn a_bidder_asks_with_the_raw_id_and_finds_the_pseudonym() {
        let spec = PseudonymSpec {
            pseudonymise: true,
            key: Some(crate::secret::Secret::new("a key of thirty-two bytes or more")),
            ..PseudonymSpec::default()
        };
        let users = UserKeys::new(&spec, false);
        let from = |from, key_type| IdentitySpec { from, source: None, key_type };
        let all = vec![from(IdentityField::Buyeruid, AgentType::Person), from(IdentityField::Ifa, AgentType::App)];
        let identities = Identities::new(all, users.clone());
        let [user, device] = Part::of(REQUEST).unwrap().pick(["user", "device"]).unwrap();
        let expected = [users.of(KeyType::Person, "b1").unwrap(), users.of(KeyType::App, "i-1").unwrap()];
        assert_eq!(identities.keys(user, device).unwrap(), expected);
        assert!(expected[1].starts_with("app:") && !expected[1].contains("i-1"));
        // While the key changes, one who has not moved yet is found by the former pseudonym.
        let turned = PseudonymSpec {
            key: Some(crate::secret::Secret::new("another key of 32 bytes, or of more")),
            previous_key: spec.key.clone(),
            ..spec
        };
        let now = UserKeys::new(&turned, false);
        let identities = Identities::new(vec![from(IdentityField::Buyeruid, AgentType::Person)], now.clone());
        let both = [now.of(KeyType::Person, "b1").unwrap(), users.of(KeyType::Person, "b1").unwrap()];
        assert_eq!(identities.keys(user, device).unwrap(), both);
    }
}
