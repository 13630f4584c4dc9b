//! What the configuration says of serve.

use super::Config;
use crate::{config_error::ConfigError, serve::ServeSpec};

impl Config {
    /// The settings of serve.
    pub fn serve(&self) -> ServeSpec {
        self.serve.clone().unwrap_or_default()
    }

    /// What keeps serve from working with this configuration.
    pub fn serve_faults(&self) -> Vec<ConfigError> {
        let format = self.pipeline.decision.format;
        let unread = (!format.is_complete()).then(|| {
            let message =
                format!("serve cannot read decisions in the format {:?}: they leave out too much", format.name());
            ConfigError::new("decision.format", message).hint("set \"json\" or \"protobuf\"")
        });
        unread.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn the_path_of_the_token_is_relative_to_the_file() {
        let text = "[serve]\ntoken_file = \"token\"\n".to_owned();
        let folder = std::path::Path::new("/etc/aimpoint");
        let (config, _) = Config::of_text("aimpoint.toml", text, Some(folder), &[], &[]).unwrap();
        assert_eq!(config.serve().token_file, Some(folder.join("token")));
    }
}
