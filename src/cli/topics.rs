//! `aimpoint topics`: lists the topics, checks that they match, and creates those that are missing.

use super::{ConfigArgs, setup::Setup, setup::block_on};
use crate::{
    config::Config,
    sink::{TopicPlan, TopicState, Topics},
};
use clap::Args;
use std::{io::Write, time::Duration};

/// How long the cluster may take to answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long a run waits for missing topics: one of several brokers may not know yet a topic that was just created, or may have
/// just restarted.
const MISSING_DEADLINE: Duration = Duration::from_secs(5);

/// Show the topics, and create those that are missing
#[derive(Args, Clone, Debug)]
pub(super) struct TopicsArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Create missing topics, and add partitions to those that have fewer than the input
    #[arg(long)]
    create: bool,
}

/// The topics that need as many partitions as the input: their index among the plans, and what must share a partition number.
pub(super) const AS_MANY: [(usize, &str); 2] =
    [(1, "a user's events and decisions"), (3, "a user's events and profile")];

/// Topics that are missing or do not match.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub(super) struct Unfit(pub(super) Vec<String>);

pub(super) fn run(args: &TopicsArgs) -> anyhow::Result<()> {
    let setup = Setup::read(&args.config)?;
    let config = &setup.config;
    let topics = client(config)?;
    let mut out = super::printed::stdout();
    let mut plans = plans(config);
    let mut states = block_on(states(&topics, &plans))??;
    if args.create {
        if config.topics.replication == -1
            && let Some(replicas) = block_on(topics.usual_replication())??
        {
            for plan in &mut plans {
                add_replicas(plan, replicas);
            }
        }
        // New topics get as many partitions as the existing ones, so that a user is in the same partition of each.
        let partitions = states.iter().flatten().map(|state| state.partitions as i32).next();
        for (plan, state) in plans.iter().zip(&states) {
            if state.is_none() {
                let partitions = partitions.unwrap_or(plan.partitions);
                block_on(topics.create(&TopicPlan { partitions, ..plan.clone() }))??;
                let settings: Vec<String> =
                    plan.settings.iter().map(|(name, value)| format!(", {name} = {value}")).collect();
                let settings = settings.concat();
                writeln!(out, "created {} with {partitions} partitions{settings}", plan.name)?;
            }
        }
        let input = states.first().and_then(Option::as_ref).map_or(0, |input| input.partitions);
        for (index, _) in AS_MANY {
            if states[index].as_ref().is_some_and(|state| state.partitions < input) {
                block_on(topics.grow(&plans[index].name, input))??;
                writeln!(out, "{} now has {input} partitions, as many as {}", plans[index].name, plans[0].name)?;
            }
        }
        states = block_on(settled(&topics, &plans, DEADLINE))??;
    }
    for (plan, state) in plans.iter().zip(&states) {
        match state {
            Some(state) => writeln!(out, "{:<32}{:>5} partitions", plan.name, state.partitions)?,
            None => writeln!(out, "{:<32}missing", plan.name)?,
        }
    }
    fit(&plans, &states)?;
    Ok(())
}

/// Refuses to run with topics that are missing or do not match.
pub(super) fn check_for_run(config: &Config) -> anyhow::Result<()> {
    let topics = client(config)?;
    let plans = plans(config);
    let states = block_on(settled(&topics, &plans, MISSING_DEADLINE))??;
    Ok(fit(&plans, &states)?)
}

pub(super) fn client(config: &Config) -> anyhow::Result<Topics> {
    Ok(Topics::new(&config.kafka.brokers, &config.kafka.client_settings(), DEADLINE)?)
}

/// The configured topics: input, decisions, dead letters, changelog, and shadow scores if there are any.
pub(super) fn plans(config: &Config) -> Vec<TopicPlan> {
    let plan = |name: &str, settings: &[(&'static str, &str)]| {
        let mut plan = TopicPlan {
            name: name.to_owned(),
            partitions: config.topics.partitions,
            replication: config.topics.replication,
            settings: settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
        };
        add_replicas(&mut plan, config.topics.replication);
        plan
    };
    let kept = |days: u64| (days * 86_400_000).to_string();
    let (input, decisions, dead_letters) = (kept(7), kept(2), kept(14));
    // A user's latest decision is kept until it expires; older ones are compacted away.
    let policy = if config.topics.decisions_by_user { "compact,delete" } else { "delete" };
    let mut plans = vec![
        plan(&config.topics.clickstream, &[("cleanup.policy", "delete"), ("retention.ms", &input)]),
        plan(&config.topics.decisions, &[("cleanup.policy", policy), ("retention.ms", &decisions)]),
        plan(&config.topics.dead_letter, &[("cleanup.policy", "delete"), ("retention.ms", &dead_letters)]),
        plan(
            &config.profiles_topic(),
            &[
                ("cleanup.policy", "compact"),
                // Restores also read what is not compacted yet, so compact early.
                ("min.cleanable.dirty.ratio", "0.2"),
                ("segment.ms", "3600000"),
            ],
        ),
    ];
    let shadow = config.topics.shadow_scores.as_deref();
    plans.extend(shadow.map(|topic| plan(topic, &[("cleanup.policy", "delete"), ("retention.ms", &decisions)])));
    plans
}

/// Requires two in-sync replicas if there are three or more, so that losing one broker loses no data. With only two replicas
/// this would stop writes as soon as one is down.
fn add_replicas(plan: &mut TopicPlan, replicas: i32) {
    if replicas >= 3 {
        plan.settings.push(("min.insync.replicas", "2".to_owned()));
    }
}

pub(super) async fn states(topics: &Topics, plans: &[TopicPlan]) -> anyhow::Result<Vec<Option<TopicState>>> {
    let names: Vec<&str> = plans.iter().map(|plan| plan.name.as_str()).collect();
    Ok(topics.states(&names).await?)
}

/// Waits until the brokers know all topics and their partitions, or until the deadline, and returns the last states.
async fn settled(topics: &Topics, plans: &[TopicPlan], deadline: Duration) -> anyhow::Result<Vec<Option<TopicState>>> {
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

pub(super) fn fit(plans: &[TopicPlan], states: &[Option<TopicState>]) -> Result<(), Unfit> {
    let mut faults = Vec::new();
    for (plan, state) in plans.iter().zip(states) {
        if state.is_none() {
            faults.push(format!("the topic {:?} does not exist; create it with: aimpoint topics --create", plan.name));
        }
    }
    let Some(Some(input)) = states.first() else { return Err(Unfit(faults)) };
    let policy = |state: &TopicState| state.setting("cleanup.policy").unwrap_or_default().to_owned();
    for (index, why) in AS_MANY {
        if let Some(other) = states[index].as_ref().filter(|other| other.partitions != input.partitions) {
            let next = if other.partitions < input.partitions {
                format!("add the missing partitions to {:?} with: aimpoint topics --create", plans[index].name)
            } else {
                format!("add partitions to {:?}, or use another topic", plans[0].name)
            };
            faults.push(format!(
                "{:?} has {} partitions and {:?} has {}; they need the same number, so that {why} are in partitions of the same \
                 number: {next}",
                plans[0].name, input.partitions, plans[index].name, other.partitions
            ));
        }
    }
    if policy(input).contains("compact") {
        faults.push(format!(
            "{:?} is compacted, but profiles are built from all of its records; set its cleanup.policy to delete",
            plans[0].name
        ));
    }
    if let Some(profiles) = &states[3] {
        let policy = policy(profiles);
        if !policy.is_empty() && policy != "compact" {
            faults.push(format!(
                "{:?} has the cleanup.policy {policy:?} and would lose the profiles of inactive users; set it to compact",
                plans[3].name
            ));
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(Unfit(faults)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// The topics of deploy/strimzi: name, replicas and settings.
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
    fn topics_are_created_as_in_the_strimzi_manifests() {
        let mut config = Config::default();
        config.topics.replication = 3;
        let deployed = deployed();
        assert_eq!(deployed.len(), 4, "{deployed:?}");
        for plan in plans(&config) {
            let (replicas, settings) = &deployed[&plan.name];
            let planned: BTreeMap<String, String> =
                plan.settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
            assert_eq!((i64::from(plan.replication), &planned), (*replicas, settings), "{}", plan.name);
        }
    }

    #[test]
    fn the_minimum_of_in_sync_replicas_follows_from_the_replication() {
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
    fn decisions_that_are_read_by_user_are_compacted() {
        let mut config = Config::default();
        config.topics.decisions_by_user = true;
        let decisions = &plans(&config)[1];
        assert!(decisions.settings.contains(&("cleanup.policy", "compact,delete".to_owned())), "{decisions:?}");
    }

    #[test]
    fn a_topic_with_fewer_partitions_than_the_input_is_reported_with_the_command_that_adds_them() {
        let plans = plans(&Config::default());
        let state = |partitions| Some(TopicState { partitions, settings: Vec::new() });
        let message = fit(&plans, &[state(4), state(3), state(4), state(2)]).unwrap_err().to_string();
        for name in ["\"decisions\"", "\"aimpoint-profiles\""] {
            assert!(message.contains(&format!("add the missing partitions to {name} with: aimpoint")), "{message}");
        }
        assert!(fit(&plans, &[state(4), state(4), state(1), state(4)]).is_ok());
    }
}
