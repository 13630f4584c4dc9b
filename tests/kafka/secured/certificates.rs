//! Certificates of a broker and its clients, in files as Kafka and librdkafka read them.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use std::path::PathBuf;
use tempfile::TempDir;

pub(super) struct Certificates(TempDir);

impl Certificates {
    /// `authority.pem` and `stranger.pem` are authorities. The others have a key, `NAME.key`, and key and chain in one
    /// file, `NAME.store`.
    pub(super) fn new() -> Self {
        let it = Self(tempfile::tempdir().unwrap());
        let authority = it.authority("authority");
        let stranger = it.authority("other");
        it.sign("good", &authority, &["127.0.0.1", "localhost"], 2100);
        it.sign("named", &authority, &["kafka.example"], 2100);
        it.sign("old", &authority, &["127.0.0.1", "localhost"], 2021);
        it.sign("client", &authority, &["client"], 2100);
        it.sign("stranger", &stranger, &["client"], 2100);
        it
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn authority(&self, name: &str) -> Issuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), params.self_signed(&key).unwrap().pem()).unwrap();
        Issuer::new(params, key)
    }

    fn sign(&self, name: &str, issuer: &Issuer<'static, KeyPair>, names: &[&str], until: i32) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, issuer).unwrap().pem();
        std::fs::write(self.path(&format!("{name}.pem")), &certificate).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.store")), format!("{}{certificate}", key.serialize_pem())).unwrap();
    }
}
