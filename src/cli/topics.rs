//! `aimpoint topics`: lists the topics, checks that they match, and creates those that are missing.

use super::ConfigArgs;
use crate::{
    app::topics::{AS_MANY, DEADLINE, block_on, client, fit, plans, require_two_in_sync, settled, states},
    sink::TopicPlan,
};
use clap::Args;
use std::io::Write;

/// Show the topics, and create those that are missing
#[derive(Args, Clone, Debug)]
pub(super) struct TopicsArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Create missing topics, and add partitions to those that have fewer than the input
    #[arg(long)]
    create: bool,
}

pub(super) fn run(args: &TopicsArgs) -> anyhow::Result<()> {
    let setup = args.config.read()?;
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
                require_two_in_sync(plan, replicas);
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
