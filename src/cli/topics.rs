//! `aimpoint topics`: what topics there are, whether they fit, and making those that are missing.

use super::{ConfigArgs, setup::Setup, setup::block_on};
use crate::{
    config::Config,
    sink::{TopicPlan, TopicState, Topics},
};
use clap::Args;
use std::{io::Write, time::Duration};

/// How long the cluster may take to answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long a run asks for topics that are absent: of several brokers one may answer that has not heard yet of a topic that was
/// just created, or that has just come back.
const ABSENT_PATIENCE: Duration = Duration::from_secs(5);

/// Show the topics, and create those that are missing
#[derive(Args, Clone, Debug)]
pub(super) struct TopicsArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Create the topics that are missing
    #[arg(long)]
    create: bool,
}

/// Topics that are absent or do not fit.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub(super) struct Unfit(pub(super) Vec<String>);

pub(super) fn run(args: &TopicsArgs) -> anyhow::Result<()> {
    let setup = Setup::read(&args.config)?;
    let config = &setup.config;
    let topics = client(config)?;
    let mut out = std::io::stdout().lock();
    let plans = plans(config);
    let mut states = block_on(states(&topics, &plans))??;
    if args.create {
        // New topics join those that are there already, so that a user lies in the same partition of each.
        let partitions = states.iter().flatten().map(|state| state.partitions as i32).next();
        for (plan, state) in plans.iter().zip(&states) {
            if state.is_none() {
                let partitions = partitions.unwrap_or(plan.partitions);
                block_on(topics.create(&TopicPlan { partitions, ..plan.clone() }))??;
                writeln!(out, "created {} with {partitions} partitions", plan.name)?;
            }
        }
        states = block_on(settled(&topics, &plans, DEADLINE))??;
    }
    for (plan, state) in plans.iter().zip(&states) {
        match state {
            Some(state) => writeln!(out, "{:<32}{:>5} partitions", plan.name, state.partitions)?,
            None => writeln!(out, "{:<32}absent", plan.name)?,
        }
    }
    fit(&plans, &states)?;
    Ok(())
}

/// Refuses to run on topics that are absent or do not fit.
pub(super) fn check_for_run(config: &Config) -> anyhow::Result<()> {
    let topics = client(config)?;
    let plans = plans(config);
    let states = block_on(settled(&topics, &plans, ABSENT_PATIENCE))??;
    Ok(fit(&plans, &states)?)
}

pub(super) fn client(config: &Config) -> anyhow::Result<Topics> {
    Ok(Topics::new(&config.kafka.brokers, &config.kafka.client_settings(), DEADLINE)?)
}

/// The topics that a configuration names: the input, the decisions, the dead letters, the changelog, and that of the shadows'
/// scores where there is one.
pub(super) fn plans(config: &Config) -> Vec<TopicPlan> {
    let plan = |name: &str, settings: &[(&'static str, &'static str)]| TopicPlan {
        name: name.to_owned(),
        partitions: config.topics.partitions,
        replication: config.topics.replication,
        settings: settings.to_vec(),
    };
    let mut plans = vec![
        plan(&config.topics.clickstream, &[]),
        plan(&config.topics.decisions, &[]),
        plan(&config.topics.dead_letter, &[]),
        plan(&config.profiles_topic(), &[("cleanup.policy", "compact")]),
    ];
    plans.extend(config.topics.shadow_scores.as_deref().map(|topic| plan(topic, &[])));
    plans
}

pub(super) async fn states(topics: &Topics, plans: &[TopicPlan]) -> anyhow::Result<Vec<Option<TopicState>>> {
    let names: Vec<&str> = plans.iter().map(|plan| plan.name.as_str()).collect();
    Ok(topics.states(&names).await?)
}

/// The states once the brokers that answer know of all topics, or when the patience is at its end.
async fn settled(topics: &Topics, plans: &[TopicPlan], patience: Duration) -> anyhow::Result<Vec<Option<TopicState>>> {
    let start = std::time::Instant::now();
    loop {
        let states = states(topics, plans).await?;
        if states.iter().all(Option::is_some) || start.elapsed() > patience {
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
    for (index, why) in [(1, "a user's events and decisions"), (3, "a user's events and profile")] {
        if let Some(other) = states[index].as_ref().filter(|other| other.partitions != input.partitions) {
            faults.push(format!(
                "{:?} has {} partitions and {:?} has {}; give both the same number, so that {why} lie in partitions of one \
                 number",
                plans[0].name, input.partitions, plans[index].name, other.partitions
            ));
        }
    }
    if policy(input).contains("compact") {
        faults.push(format!(
            "{:?} is compacted, and profiles are made of all of its records; set its cleanup.policy to delete",
            plans[0].name
        ));
    }
    if let Some(profiles) = &states[3] {
        let policy = policy(profiles);
        if !policy.is_empty() && policy != "compact" {
            faults.push(format!(
                "{:?} has the cleanup.policy {policy:?}, and would lose the profiles of quiet users; set it to compact",
                plans[3].name
            ));
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(Unfit(faults)) }
}
