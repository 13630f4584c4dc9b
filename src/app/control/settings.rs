//! What control takes from the configuration.

use super::Input;
use crate::{
    app::{Instance, Setup},
    config::{Config, ConfigLoadError},
    control::{CampaignSetup, ControlSpec},
    event::UserKeys,
    sink::ControlSinkSettings,
    source::TailSettings,
    targeting::campaign::{Campaign, CampaignSpec, Chance, Reward},
};
use std::time::Duration;

/// The campaigns of a configuration as control sees them.
pub(crate) fn campaigns(setup: &Setup) -> Result<Vec<CampaignSetup>, ConfigLoadError> {
    let pipeline = setup.pipeline(false)?;
    let creatives = |campaign: &Campaign| {
        let all = pipeline.campaigns().creatives().iter();
        let own = all.filter(|creative| creative.is_active() && creative.spec.campaign == campaign.id);
        own.map(|creative| creative.spec.id.clone()).collect()
    };
    let specs = &setup.config.pipeline.campaigns;
    let predicts = |campaign: &Campaign| specs.iter().find(|spec| spec.id == campaign.id).and_then(predicted_by);
    let campaign = |campaign: &Campaign| CampaignSetup {
        id: campaign.id.clone(),
        currency: campaign.currency,
        zone: campaign.zone.clone(),
        budget: campaign.budget,
        until: campaign.until(),
        reward: campaign.rotation.reward,
        predicts: predicts(campaign),
        learning: campaign.rotation.learning.clone(),
        floor: campaign.rotation.floor,
        creatives: creatives(campaign),
    };
    Ok(pipeline.campaigns().all().iter().map(campaign).collect())
}

/// What a model predicts of a campaign's impressions, by the action that it pays for. Outcomes only know clicks and conversions, so
/// every other action is a conversion. A number in the configuration is no prediction of a model.
fn predicted_by(spec: &CampaignSpec) -> Option<Reward> {
    if !matches!(spec.probability, Some(Chance::Score(_))) {
        return None;
    }
    match spec.action.as_deref() {
        None | Some("impression") => None,
        Some("click") => Some(Reward::Click),
        Some(_) => Some(Reward::Conversion),
    }
}

/// The settings of a process.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) app: String,
    /// How users are named in decisions.
    pub(super) users: UserKeys,
    pub(super) spec: ControlSpec,
    pub(super) decisions: String,
    pub(super) outcomes: String,
    pub(super) audiences: String,
    pub(super) state: String,
    policy: String,
    dead_letters: String,
    pub(super) brokers: String,
    /// The client settings for the group, for readers and for producers.
    clients: [Vec<(String, String)>; 3],
    pub(super) stall_after: Duration,
}

impl Settings {
    pub(super) fn of(config: &Config, instance: &Instance) -> Self {
        let named = |settings: Vec<(String, String)>| {
            let id = format!("{}-control-{}", config.app.name, instance.name);
            [vec![("client.id".to_owned(), id)], settings].concat()
        };
        let kafka = &config.kafka;
        Self {
            app: config.app.name.clone(),
            users: config.users(),
            spec: config.control(),
            decisions: config.topics.decisions.clone(),
            outcomes: config.topics.outcomes.clone(),
            audiences: config.audiences_topic(),
            state: config.control_topic(),
            policy: config.policy_topic(),
            dead_letters: config.topics.dead_letter.clone(),
            brokers: kafka.brokers.clone(),
            clients: [kafka.client_settings(), kafka.consumer_settings(), kafka.producer_settings()].map(named),
            stall_after: config.engine.stall_after,
        }
    }

    /// The topic of an input.
    pub(super) fn topic(&self, input: Input) -> &str {
        match input {
            Input::Decisions => &self.decisions,
            Input::Outcomes => &self.outcomes,
            Input::Audiences => &self.audiences,
        }
    }

    /// How to read a topic.
    pub(super) fn tail(&self, topic: &str) -> TailSettings {
        self.reading(topic, &self.clients[1])
    }

    /// How to take part in the election of the leader.
    pub(super) fn candidacy(&self) -> TailSettings {
        self.reading(&self.state, &self.clients[0])
    }

    fn reading(&self, topic: &str, client: &[(String, String)]) -> TailSettings {
        let (brokers, topic, client) = (self.brokers.clone(), topic.to_owned(), client.to_vec());
        TailSettings { brokers, group: self.group(), topic, client }
    }

    /// How to write.
    pub(super) fn sink(&self) -> ControlSinkSettings {
        ControlSinkSettings {
            brokers: self.brokers.clone(),
            transactional_id: self.group(),
            app: self.app.clone(),
            state: self.state.clone(),
            policy: self.policy.clone(),
            dead_letters: self.dead_letters.clone(),
            client: self.clients[2].clone(),
        }
    }

    /// The group and the transactional id. Names contain no @, so nobody else has this one. No prefix of workers' transactional
    /// ids covers it, so that a right to theirs is none to this one.
    pub(super) fn group(&self) -> String {
        format!("{}@control", self.app)
    }

    /// Settings for tests without Kafka.
    #[cfg(test)]
    pub(super) fn for_tests(spec: ControlSpec) -> Self {
        let text = str::to_owned;
        Self {
            app: text("shop"),
            users: UserKeys::default(),
            spec,
            decisions: text("decisions"),
            outcomes: text("outcomes"),
            audiences: text("shop-audiences"),
            state: text("shop-control"),
            policy: text("shop-policy"),
            dead_letters: text("dead-letter"),
            brokers: String::new(),
            clients: [Vec::new(), Vec::new(), Vec::new()],
            stall_after: Duration::from_mins(3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variant_of_the_model_has_one_name() {
        assert_eq!(crate::control::CONTROL_VARIANT, crate::inference::CONTROL);
    }

    #[test]
    fn a_model_predicts_what_a_score_is_bid_by_and_a_number_is_no_prediction() {
        let of = |text: &str| {
            let spec: CampaignSpec = toml::from_str(&format!("id = \"a\"\n{text}")).unwrap();
            predicted_by(&spec)
        };
        assert_eq!(of("action = \"click\"\nvalue = 1\nprobability = 0.01"), None);
        assert_eq!(of("action = \"click\"\nvalue = 1\nprobability = \"score\""), Some(Reward::Click));
        assert_eq!(of("action = \"buy\"\nvalue = 1\nprobability = \"buy\""), Some(Reward::Conversion));
        assert_eq!(of("value = 1"), None);
    }
}
