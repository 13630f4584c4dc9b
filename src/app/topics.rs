//! The topics of an application: what they should be, what they are, and whether they match.

use crate::{
    config::Config,
    sink::{SizeLimits, TopicPlan, TopicState, Topics},
};
use std::time::Duration;

/// How long the cluster may take to respond.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// How long to wait for missing topics, because a broker may not know a new topic yet.
const ABSENT_DEADLINE: Duration = Duration::from_secs(5);

/// The topics that need as many partitions as the input, by their index in the plans, and what would be separated
/// otherwise.
pub(crate) const AS_MANY: [(usize, &str); 2] =
    [(1, "a user's events and decisions"), (3, "a user's events and profile")];

/// Topics that are missing or do not match.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub(crate) struct Unfit(pub(crate) Vec<String>);

/// Checks that all topics exist and match.
pub(crate) fn check(config: &Config) -> anyhow::Result<()> {
    Ok(unfit(&client(config)?, config)?.map_or(Ok(()), Err)?)
}

/// What is wrong with the topics of the workers.
fn unfit(topics: &Topics, config: &Config) -> anyhow::Result<Option<Unfit>> {
    let plans = plans(config);
    let states = block_on(settled(topics, &plans, ABSENT_DEADLINE))??;
    Ok(fit(&plans, &states).err())
}

/// Checks that the topics of control exist and match.
pub(crate) fn check_for_control(config: &Config) -> anyhow::Result<()> {
    let topics = client(config)?;
    let plans = control_plans(config);
    let start = std::time::Instant::now();
    loop {
        let states = block_on(states(&topics, &plans))??;
        match fit_control(&plans, &states) {
            // A broker may not know a new topic yet.
            Err(_) if start.elapsed() < ABSENT_DEADLINE => std::thread::sleep(Duration::from_millis(100)),
            result => return Ok(result?),
        }
    }
}

/// Checks that the topics of the workers exist and match, and those of control if a campaign needs it.
pub(crate) fn check_all(config: &Config) -> anyhow::Result<()> {
    let topics = client(config)?;
    let mut found: Vec<Unfit> = unfit(&topics, config)?.into_iter().collect();
    if config.needs_control() {
        found.extend(unfit_for_control(&topics, config)?);
    }
    let errors: Vec<String> = found.into_iter().flat_map(|unfit| unfit.0).collect();
    if errors.is_empty() { Ok(()) } else { Err(Unfit(errors).into()) }
}

/// What is wrong with the topics that only control needs.
pub(crate) fn unfit_for_control(topics: &Topics, config: &Config) -> anyhow::Result<Option<Unfit>> {
    let plans = own_control_plans(config);
    let states = block_on(states(topics, &plans))??;
    Ok(fit_control(&plans, &states).err())
}

/// A client for requests about topics.
pub(crate) fn client(config: &Config) -> anyhow::Result<Topics> {
    Ok(Topics::new(&config.kafka.brokers, &config.kafka.client_settings(), DEADLINE)?)
}

/// The topics that a configuration names: the input, the decisions, the dead letters, the changelog, and the shadow scores if
/// there are any.
pub(crate) fn plans(config: &Config) -> Vec<TopicPlan> {
    let plan = |name: &str, settings: &[(&'static str, &str)]| {
        let mut plan = TopicPlan {
            name: name.to_owned(),
            partitions: config.topics.partitions,
            replication: config.topics.replication,
            settings: settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
        };
        require_two_in_sync(&mut plan, config.topics.replication);
        plan
    };
    let kept = |days: u64| (days * 86_400_000).to_string();
    let (input, decisions, dead_letters) = (kept(7), kept(2), kept(14));
    // Compaction keeps each user's latest decision until it expires.
    let policy = if config.topics.decisions_by_user { "compact,delete" } else { "delete" };
    let mut plans = vec![
        plan(&config.topics.clickstream, &[("cleanup.policy", "delete"), ("retention.ms", &input)]),
        plan(&config.topics.decisions, &[("cleanup.policy", policy), ("retention.ms", &decisions)]),
        plan(&config.topics.dead_letter, &[("cleanup.policy", "delete"), ("retention.ms", &dead_letters)]),
        plan(
            &config.profiles_topic(),
            &[
                ("cleanup.policy", "compact"),
                // A restore also reads what is not compacted yet.
                ("min.cleanable.dirty.ratio", "0.2"),
                ("segment.ms", "3600000"),
            ],
        ),
    ];
    let shadow = config.topics.shadow_scores.as_deref();
    plans.extend(shadow.map(|topic| plan(topic, &[("cleanup.policy", "delete"), ("retention.ms", &decisions)])));
    plans
}

/// The topics that control reads and writes: decisions, dead letters, outcomes, audiences, its state, and the policy.
pub(crate) fn control_plans(config: &Config) -> Vec<TopicPlan> {
    let [_, decisions, dead_letters] = [0, 1, 2].map(|index| plans(config).swap_remove(index));
    vec![decisions, dead_letters].into_iter().chain(own_control_plans(config)).collect()
}

/// The topics that only control needs: outcomes, audiences, its state, and the policy. The last two have one partition.
pub(crate) fn own_control_plans(config: &Config) -> Vec<TopicPlan> {
    let plan = |name: String, partitions: i32, settings: &[(&'static str, &str)]| {
        let settings = settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let mut plan = TopicPlan { name, partitions, replication: config.topics.replication, settings };
        require_two_in_sync(&mut plan, config.topics.replication);
        plan
    };
    // A takeover reads the state, so it is compacted early. A policy may be larger than a message by default.
    let compacted = [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0.2"),
        ("segment.ms", "3600000"),
        ("max.message.bytes", "16777216"),
    ];
    let kept = (7 * 86_400_000_u64).to_string();
    vec![
        plan(
            config.topics.outcomes.clone(),
            config.topics.partitions,
            &[("cleanup.policy", "delete"), ("retention.ms", &kept)],
        ),
        plan(config.audiences_topic(), 1, &compacted),
        plan(config.control_topic(), 1, &compacted),
        plan(config.policy_topic(), 1, &compacted),
    ]
}

/// Checks that the topics of [`control_plans`] or [`own_control_plans`] exist and match.
pub(crate) fn fit_control(plans: &[TopicPlan], states: &[Option<TopicState>]) -> Result<(), Unfit> {
    let mut errors = Vec::new();
    for (index, (plan, state)) in plans.iter().zip(states).enumerate() {
        let name = &plan.name;
        let Some(state) = state else {
            errors.push(format!("the topic {name:?} does not exist; create it with: aimpoint topics --create"));
            continue;
        };
        if plans.len() - index > 2 {
            continue;
        }
        if state.partitions != 1 {
            errors.push(format!(
                "{name:?} has {} partitions, but control needs one, so that one process leads and records stay in order: \
                 delete the topic, and create it with: aimpoint topics --create",
                state.partitions
            ));
        }
        let policy = state.setting("cleanup.policy").unwrap_or("compact");
        if policy != "compact" {
            errors.push(format!(
                "{name:?} has the cleanup.policy {policy:?}, which would delete what control knows; set it to compact"
            ));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Unfit(errors)) }
}

/// With three or more replicas, requires two in sync, so that losing a broker loses no data. Requiring both of two
/// would stop everything when one broker is unavailable.
pub(crate) fn require_two_in_sync(plan: &mut TopicPlan, replicas: i32) {
    if replicas >= 3 {
        plan.settings.push(("min.insync.replicas", "2".to_owned()));
    }
}

/// The state of each topic, in the order of the plans; `None` if it is missing.
pub(crate) async fn states(topics: &Topics, plans: &[TopicPlan]) -> anyhow::Result<Vec<Option<TopicState>>> {
    let names: Vec<&str> = plans.iter().map(|plan| plan.name.as_str()).collect();
    Ok(topics.states(&names).await?)
}

/// The state of each topic, once all of them exist with enough partitions or the deadline has passed: brokers learn of new
/// topics at different times.
pub(crate) async fn settled(
    topics: &Topics,
    plans: &[TopicPlan],
    deadline: Duration,
) -> anyhow::Result<Vec<Option<TopicState>>> {
    let start = std::time::Instant::now();
    loop {
        let states = states(topics, plans).await?;
        let input = states.first().and_then(Option::as_ref).map_or(0, |input| input.partitions);
        let has_enough = |(index, _): (usize, &str)| states[index].as_ref().is_some_and(|it| it.partitions >= input);
        let is_settled = states.iter().all(Option::is_some) && AS_MANY.into_iter().all(has_enough);
        if is_settled || start.elapsed() > deadline {
            return Ok(states);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Checks that the topics exist and match.
pub(crate) fn fit(plans: &[TopicPlan], states: &[Option<TopicState>]) -> Result<(), Unfit> {
    let mut errors = Vec::new();
    for (plan, state) in plans.iter().zip(states) {
        if state.is_none() {
            errors.push(format!("the topic {:?} does not exist; create it with: aimpoint topics --create", plan.name));
        }
    }
    let Some(Some(input)) = states.first() else { return Err(Unfit(errors)) };
    let policy = |state: &TopicState| state.setting("cleanup.policy").unwrap_or_default().to_owned();
    for (index, why) in AS_MANY {
        if let Some(other) = states[index].as_ref().filter(|other| other.partitions != input.partitions) {
            let next = if other.partitions < input.partitions {
                format!("add those that {:?} lacks with: aimpoint topics --create", plans[index].name)
            } else {
                format!("add partitions to {:?}, or use another topic", plans[0].name)
            };
            errors.push(format!(
                "{:?} has {} partitions and {:?} has {}; they need the same number, so that {why} lie in partitions of the \
                 same number: {next}",
                plans[0].name, input.partitions, plans[index].name, other.partitions
            ));
        }
    }
    if policy(input).contains("compact") {
        errors.push(format!(
            "{:?} is compacted, but profiles need all of its records; set its cleanup.policy to delete",
            plans[0].name
        ));
    }
    if let Some(profiles) = &states[3] {
        let policy = policy(profiles);
        if !policy.is_empty() && policy != "compact" {
            errors.push(format!(
                "{:?} has the cleanup.policy {policy:?}, which would delete the profiles of inactive users; set it to compact",
                plans[3].name
            ));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Unfit(errors)) }
}

/// The largest messages that the topics accept, as far as is known.
pub(crate) fn size_limits(states: &[Option<TopicState>]) -> SizeLimits {
    let limit = |index: usize| {
        let state = states.get(index).and_then(Option::as_ref);
        let setting = state.and_then(|state| state.setting("max.message.bytes"));
        setting.and_then(|bytes| bytes.parse().ok()).unwrap_or(usize::MAX)
    };
    SizeLimits { decisions: limit(1), dead_letters: limit(2), profiles: limit(3) }
}

/// The state of each topic, in the order of the plans; empty if the cluster does not respond.
pub(crate) fn states_or_none(config: &Config) -> Vec<Option<TopicState>> {
    let plans = plans(config);
    let found = client(config).and_then(|client| block_on(states(&client, &plans))?);
    found.unwrap_or_else(|error| {
        tracing::debug!("ask for the topics' partitions and max.message.bytes: {error:#}");
        Vec::new()
    })
}

/// Waits for a response from the cluster.
pub(crate) fn block_on<T>(question: impl Future<Output = T>) -> anyhow::Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(question))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// The topics of deploy/strimzi: by name, their replicas and settings.
    fn deployed() -> BTreeMap<String, (i64, BTreeMap<String, String>)> {
        let text = include_str!("../../deploy/strimzi/topics.yaml");
        let mut topics = BTreeMap::new();
        for document in text.split("\n---\n") {
            let value = |line: &str| line.split_once(": ").map(|(_, value)| value.trim().trim_matches('"').to_owned());
            let lines = || document.lines().filter(|line| !line.trim_start().starts_with('#'));
            let of = |start: &str| lines().find(|line| line.starts_with(start)).and_then(value).unwrap();
            let config = lines().skip_while(|line| *line != "  config:").skip(1);
            let settings = config.filter_map(|line| line.trim().split_once(": "));
            let settings = settings.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()));
            topics.insert(of("  name: "), (of("  replicas: ").parse().unwrap(), settings.collect()));
        }
        topics
    }

    #[test]
    fn topics_are_created_as_in_the_deployment() {
        let mut config = Config::default();
        config.topics.replication = 3;
        let deployed = deployed();
        assert_eq!(deployed.len(), 8, "{deployed:?}");
        for plan in plans(&config).into_iter().chain(own_control_plans(&config)) {
            let (replicas, settings) = &deployed[&plan.name];
            let planned: BTreeMap<String, String> =
                plan.settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
            assert_eq!((i64::from(plan.replication), &planned), (*replicas, settings), "{}", plan.name);
        }
    }

    #[test]
    fn replicas_in_sync_depend_on_the_replication_factor() {
        for (replication, expected) in [(-1, None), (1, None), (2, None), (3, Some("2")), (5, Some("2"))] {
            let mut config = Config::default();
            config.topics.replication = replication;
            for plan in plans(&config) {
                let found = plan.settings.iter().find(|(name, _)| *name == "min.insync.replicas");
                assert_eq!(found.map(|(_, value)| value.as_str()), expected, "{replication} {}", plan.name);
            }
        }
    }

    #[test]
    fn decisions_by_user_are_compacted() {
        let mut config = Config::default();
        config.topics.decisions_by_user = true;
        let decisions = &plans(&config)[1];
        assert!(decisions.settings.contains(&("cleanup.policy", "compact,delete".to_owned())), "{decisions:?}");
    }

    #[test]
    fn a_topic_with_too_few_partitions_is_reported_with_the_command_that_adds_them() {
        let plans = plans(&Config::default());
        let state = |partitions| Some(TopicState { partitions, settings: Vec::new() });
        let told = fit(&plans, &[state(4), state(3), state(4), state(2)]).unwrap_err().to_string();
        for name in ["\"decisions\"", "\"aimpoint-profiles\""] {
            assert!(told.contains(&format!("add those that {name} lacks with: aimpoint topics --create")), "{told}");
        }
        assert!(fit(&plans, &[state(4), state(4), state(1), state(4)]).is_ok());
    }

    #[test]
    fn size_limits_come_from_the_topics_settings() {
        let state = |bytes: &str| {
            Some(TopicState { partitions: 1, settings: vec![("max.message.bytes".to_owned(), bytes.to_owned())] })
        };
        let found = size_limits(&[state("1"), state("1048588"), None, state("odd")]);
        assert_eq!(found, SizeLimits { decisions: 1_048_588, ..SizeLimits::default() });
    }
}
