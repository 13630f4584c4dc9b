//! What the configuration says of control: whether it is needed, and its topics.

use super::Config;
use crate::{
    config_error::ConfigError,
    control::ControlSpec,
    targeting::campaign::{CampaignSpec, RotationMethod, RotationSpec},
};

impl Config {
    /// The settings of control.
    pub fn control(&self) -> ControlSpec {
        let minimum_audience = self.pipeline.targeting.minimum_audience;
        ControlSpec { minimum_audience, ..self.control.clone().unwrap_or_default() }
    }

    /// Whether there is anything for control to do: it is configured, or a campaign needs it.
    pub fn needs_control(&self) -> bool {
        let learns = |rotation: &RotationSpec| rotation.method != RotationMethod::Weights;
        let needs =
            |campaign: &CampaignSpec| campaign.budget.is_some() || campaign.rotation.as_ref().is_some_and(learns);
        let has_minimum = self.pipeline.targeting.minimum_audience > 0;
        self.control.is_some() || has_minimum || self.pipeline.campaigns.iter().any(needs)
    }

    /// What keeps control from working with this configuration.
    pub fn control_faults(&self) -> Vec<ConfigError> {
        let format = self.pipeline.decision.format;
        let unread = (!format.is_complete()).then(|| {
            let message =
                format!("control cannot read decisions in the format {:?}: they leave out too much", format.name());
            ConfigError::new("decision.format", message).hint("set \"json\" or \"protobuf\"")
        });
        unread.into_iter().collect()
    }

    /// The topic of control's policy.
    pub fn policy_topic(&self) -> String {
        self.topics.policy.clone().unwrap_or_else(|| format!("{}-policy", self.app.name))
    }

    /// The topic of control's state.
    pub fn control_topic(&self) -> String {
        self.topics.control.clone().unwrap_or_else(|| format!("{}-control", self.app.name))
    }

    /// The topic of the sizes of audiences.
    pub fn audiences_topic(&self) -> String {
        self.topics.audiences.clone().unwrap_or_else(|| format!("{}-audiences", self.app.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<Config, String> {
        let text = format!("[app]\nname = \"shop\"\n{text}");
        let read = Config::of_text("aimpoint.toml", text, None, &[], &[]);
        read.map(|(config, _)| config).map_err(|error| error.to_string())
    }

    const BUDGET: &str = "[[campaign]]\nid = \"a\"\ncurrency = \"EUR\"\nvalue = 2.0\nbudget = { daily = 10.0 }\n";

    #[test]
    fn control_is_needed_for_budgets_and_for_creatives_that_learn_or_if_it_is_declared() {
        for (text, is_needed) in [
            ("", false),
            ("[[campaign]]\nid = \"a\"\ncurrency = \"EUR\"\nvalue = 2.0\n", false),
            (BUDGET, true),
            ("[control]\n", true),
            ("[targeting]\nminimum_audience = 50\n", true),
        ] {
            let config = config(text).unwrap();
            assert_eq!(config.needs_control(), is_needed, "{text}");
            assert_eq!((config.policy_topic(), config.control_topic()), ("shop-policy".into(), "shop-control".into()));
        }
        let named = config("[topics]\npolicy = \"p\"\ncontrol = \"c\"\n").unwrap();
        assert_eq!((named.policy_topic(), named.control_topic()), ("p".to_owned(), "c".to_owned()));
    }

    #[test]
    fn flat_decisions_and_wrong_settings_are_reported_with_their_line() {
        let message = config(&format!(
            "{BUDGET}[decision]\nformat = \"flat\"\nfields = {{ id = \"decision_id\" }}\n\
             [control]\npolicy_interval = \"2m\"\n[topics]\noutcomes = \"decisions\"\n"
        ))
        .unwrap_err();
        for part in [
            "aimpoint.toml:9:10: decision.format: control cannot read decisions in the format \"flat\"",
            "set \"json\" or \"protobuf\"",
            "aimpoint.toml:12:19: control.policy_interval: 2m is not between 1s and 1m",
            "topics.outcomes: \"decisions\" is already topics.decisions",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
}
