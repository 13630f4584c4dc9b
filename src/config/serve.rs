//! What the configuration says of serve.

use super::Config;
use crate::{
    config_error::ConfigError,
    serve::{ServePartitions, ServeSpec},
};

impl Config {
    /// The settings of serve. What consent permits is in `[consent]`, for events and for bid requests alike.
    pub fn serve(&self) -> ServeSpec {
        let mut spec = self.serve.clone().unwrap_or_default();
        if spec.consent.is_none() && self.has_consent {
            spec.consent = Some(self.pipeline.consent.clone());
        }
        spec
    }

    /// The group that shares the partitions of the decisions with `serve.partitions = "assigned"`. Without, it is never joined.
    pub fn serve_group(&self) -> String {
        // Names of applications contain no @, so nobody else has this one.
        format!("{}-@serve", self.app.name)
    }

    /// Whether the configuration has consent in a place that the next version does not read.
    pub fn has_older_consent(&self) -> bool {
        self.serve.as_ref().is_some_and(|serve| serve.consent.is_some())
    }

    /// What keeps serve from working with this configuration.
    pub fn serve_faults(&self) -> Vec<ConfigError> {
        let format = self.pipeline.decision.format;
        let unread = (!format.is_complete()).then(|| {
            let message =
                format!("serve cannot read decisions in the format {:?}: they leave out too much", format.name());
            ConfigError::new("decision.format", message).hint("set \"json\" or \"protobuf\"")
        });
        let mut errors: Vec<ConfigError> = unread.into_iter().collect();
        let identity = &self.pipeline.identity;
        let is_rotated = identity.previous_key.is_some() || identity.previous_key_file.is_some();
        if is_rotated && self.serve.as_ref().is_some_and(|serve| serve.partitions == ServePartitions::Assigned) {
            // The partition of a user follows from the pseudonym, so the former one is mostly of another process.
            let message = "\"assigned\" finds no user by a former pseudonym";
            let hint =
                "set serve.partitions = \"all\" while identity.previous_key or identity.previous_key_file is set";
            errors.push(ConfigError::new("serve.partitions", message).hint(hint));
        }
        // Its own section is checked with the others of [serve].
        if self.has_consent && !self.has_older_consent() {
            drop(self.pipeline.consent.compile(&mut errors));
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::origin_of;

    fn config(text: &str) -> Result<Config, String> {
        let read = Config::of_text("aimpoint.toml", text.to_owned(), None, &[], &[]);
        read.map(|(config, _)| config).map_err(|error| error.to_string())
    }

    #[test]
    fn serve_has_defaults_and_its_faults_are_reported_with_their_line() {
        assert_eq!(config("").unwrap().serve(), ServeSpec::default());
        let message = config(
            "[serve]\nthreads = 0\nprovider = { name = \"shop.example\" }\n\
             [[serve.identity]]\nfrom = \"user.eids\"\nkey_type = \"person\"\n\
             [serve.consent]\nenabled = true\nwithout_law = []\n\
             [decision]\nformat = \"artf\"\n",
        )
        .unwrap_err();
        for part in [
            "aimpoint.toml:2:11: serve.threads: 0 is not between 1 and 256",
            "aimpoint.toml:4:1: serve.identity[0].source: ids of user.eids have a source",
            "serve.consent.vendor_id: it is missing, so no TC string can be checked",
            "decision.format: serve cannot read decisions in the format \"artf\"",
            "set \"json\" or \"protobuf\"",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }

    #[test]
    fn processes_that_share_the_partitions_say_where_they_are() {
        let shared = |address: &str| config(&format!("[serve]\npartitions = \"assigned\"\n{address}"));
        let message = shared("").unwrap_err();
        assert!(message.contains("serve.advertise: the processes share the partitions"), "{message}");
        for address in ["http://10.0.0.5:9470", "https://serve-0.serve.shop.svc:9470", "http://[::1]:1", "http://a"] {
            assert_eq!(
                shared(&format!("advertise = \"{address}\"")).unwrap().serve().advertise.as_deref(),
                Some(address)
            );
        }
        // What Kubernetes makes of $(POD_IP) in a cluster with IPv6.
        assert!(shared("advertise = \"http://fd00::5:9470\"").is_ok());
        assert_eq!(origin_of("http://fd00::5:9470"), "http://[fd00::5]:9470");
        assert_eq!(origin_of("https://[fd00::5]:9470"), "https://[fd00::5]:9470");
        assert_eq!(origin_of("http://10.0.0.5:9470"), "http://10.0.0.5:9470");
        for address in [
            "",
            "10.0.0.5:9470",
            "ftp://a",
            "http://",
            "http://a/",
            "http://a/b",
            "http://a?b",
            "http://u@a",
            "http://a b",
            "http://fd00::zz:9470",
        ] {
            let message = shared(&format!("advertise = \"{address}\"")).unwrap_err();
            assert!(message.contains("is no address that bidders can be sent to"), "{address}: {message}");
        }
    }

    #[test]
    fn processes_share_no_partitions_while_the_key_of_pseudonyms_changes() {
        let (key, previous) = ("a key of 32 bytes, or of more than that", "another key of 32 bytes, or of more");
        let with = |partitions: &str, previous: &str| {
            config(&format!(
                "[serve]\npartitions = \"{partitions}\"\nadvertise = \"http://a\"\n\
                 [identity]\npseudonymise = true\nkey = \"{key}\"\n{previous}"
            ))
        };
        let previous = format!("previous_key = \"{previous}\"\n");
        let message = with("assigned", &previous).unwrap_err();
        for part in [
            "aimpoint.toml:2:14: serve.partitions: \"assigned\" finds no user by a former pseudonym",
            "set serve.partitions = \"all\" while identity.previous_key",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert!(with("assigned", "").is_ok());
        assert!(with("all", &previous).is_ok());
    }

    #[test]
    fn one_section_says_what_consent_permits() {
        let provider = "[serve]\nprovider = { name = \"shop.example\" }\n";
        let message = config(provider).unwrap_err();
        assert!(message.contains("add [consent] with enabled = true"), "{message}");
        let of_events = "[consent]\nenabled = true\nvendor_id = 7\nwithout_law = []\n";
        let older = "[serve.consent]\nenabled = false\n";
        let both = config(&format!("{provider}{of_events}")).unwrap();
        assert_eq!((both.serve().consent.unwrap().vendor_id, both.has_older_consent()), (Some(7), false));
        // Written out, it is declared.
        let declared = config(&format!("{provider}[consent]\nenabled = false\n")).unwrap();
        assert!(!declared.serve().consent.unwrap().enabled);
        // The older place counts as long as it is read.
        let first = config(&format!("{provider}{older}{of_events}")).unwrap();
        assert!(!first.serve().consent.unwrap().enabled && first.has_older_consent());
        // A fault is told once, where it is.
        let message = config(&format!("{provider}[consent]\nenabled = true\nwithout_law = []\n")).unwrap_err();
        assert_eq!(message.matches("no TC string can be checked").count(), 1, "{message}");
        assert!(!message.contains("serve.consent"), "{message}");
    }

    #[test]
    fn a_seat_is_for_the_decisions_or_for_the_bids_that_serve_shades() {
        let agents = "[consent]\nenabled = false\n[serve.grpc]\n";
        for (text, fault) in [
            (format!("{agents}[decision]\nseat = \"s1\""), None),
            (format!("{agents}[decision]\nseat = \"s1\"\nformat = \"protobuf\""), None),
            (format!("{agents}[decision]\nseat = \"s/1\""), Some("the seat may not contain a slash")),
            ("[serve]\n[decision]\nseat = \"s1\"".to_owned(), Some("decision.seat: nothing here uses the seat")),
            ("[decision]\nseat = \"s1\"".to_owned(), Some("decision.seat: nothing here uses the seat")),
            ("[decision]\nformat = \"artf\"\nseat = \"s1\"".to_owned(), None),
        ] {
            match (config(&text), fault) {
                (Ok(config), None) => assert_eq!(config.pipeline.decision.seat, "s1"),
                (Err(message), Some(part)) => assert!(message.contains(part), "{text}: {message}"),
                (other, _) => panic!("{text}: {:?}", other.map(drop)),
            }
        }
    }

    #[test]
    fn paths_of_files_are_relative_to_the_configuration() {
        let text = "[serve]\ntoken_file = \"token\"\nsnapshot = \"s\"\ntls = { certificate = \"c\", key = \"k\", client_ca = \"/a\" }\n";
        let text = text.to_owned();
        let folder = std::path::Path::new("/etc/aimpoint");
        let (config, _) = Config::of_text("aimpoint.toml", text, Some(folder), &[], &[]).unwrap();
        let serve = config.serve();
        assert_eq!((serve.token_file, serve.snapshot), (Some(folder.join("token")), Some(folder.join("s"))));
        let tls = serve.tls.unwrap();
        assert_eq!((tls.certificate, tls.key), (folder.join("c"), folder.join("k")));
        assert_eq!(tls.client_ca, Some("/a".into()));
    }
}
