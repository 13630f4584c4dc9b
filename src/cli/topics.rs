//! `aimpoint topics`: lists the topics, checks that they match, and creates those that are missing; or prints the rights that the
//! brokers have to grant.

use super::ConfigArgs;
use crate::{
    app::{
        rights::{Role, commands, rights},
        topics::{
            AS_MANY, DEADLINE, Unfit, block_on, client, fit, fit_control, own_control_plans, plans,
            require_two_in_sync, settled, states,
        },
    },
    config::Config,
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
    /// Print the commands that grant each role the rights it needs, and do nothing else
    #[arg(long, conflicts_with = "create")]
    acls: bool,
    /// With --acls: only this role
    #[arg(long, value_enum, value_name = "ROLE", requires = "acls")]
    role: Option<Role>,
    /// With --acls: the user, such as User:aimpoint; by default one for each role, named after the application
    #[arg(long, value_name = "USER", requires = "acls")]
    principal: Option<String>,
}

pub(super) fn run(args: &TopicsArgs) -> anyhow::Result<()> {
    let setup = args.config.read()?;
    let config = &setup.config;
    if args.acls {
        return Ok(print_rights(args, config)?);
    }
    let topics = client(config)?;
    let mut out = super::printed::stdout();
    let mut plans = plans(config);
    let own = plans.len();
    if config.needs_control() {
        plans.extend(own_control_plans(config));
    }
    // Of control's topics, only the outcomes have as many partitions as the input.
    let single = own + 1;
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
        // A reader that goes away must not keep topics from being created.
        let mut printed = Ok(());
        for (index, (plan, state)) in plans.iter().zip(&states).enumerate() {
            if state.is_none() {
                let partitions = partitions.filter(|_| index < single).unwrap_or(plan.partitions);
                block_on(topics.create(&TopicPlan { partitions, ..plan.clone() }))??;
                let settings: Vec<String> =
                    plan.settings.iter().map(|(name, value)| format!(", {name} = {value}")).collect();
                let settings = settings.concat();
                printed = printed
                    .and_then(|()| writeln!(out, "created {} with {partitions} partitions{settings}", plan.name));
            }
        }
        let input = states.first().and_then(Option::as_ref).map_or(0, |input| input.partitions);
        for (index, _) in AS_MANY {
            if states[index].as_ref().is_some_and(|state| state.partitions < input) {
                block_on(topics.grow(&plans[index].name, input))??;
                let names = (&plans[index].name, &plans[0].name);
                printed = printed
                    .and_then(|()| writeln!(out, "{} now has {input} partitions, as many as {}", names.0, names.1));
            }
        }
        printed?;
        states = block_on(settled(&topics, &plans, DEADLINE))??;
    }
    for (plan, state) in plans.iter().zip(&states) {
        match state {
            Some(state) => writeln!(out, "{:<32}{:>5} partitions", plan.name, state.partitions)?,
            None => writeln!(out, "{:<32}missing", plan.name)?,
        }
    }
    let (own, control) = (fit(&plans[..own], &states[..own]), fit_control(&plans[own..], &states[own..]));
    let errors: Vec<String> = [own, control].into_iter().filter_map(Result::err).flat_map(|unfit| unfit.0).collect();
    if errors.is_empty() { Ok(()) } else { Err(Unfit(errors).into()) }
}

/// Prints the commands that grant the rights, by role.
fn print_rights(args: &TopicsArgs, config: &Config) -> std::io::Result<()> {
    let mut out = super::printed::stdout();
    writeln!(out, "# For brokers with TLS or SASL, add --command-config FILE with the settings of an administrator.")?;
    for role in Role::ALL.into_iter().filter(|role| args.role.is_none_or(|only| only == *role)) {
        let rights = rights(role, config);
        if rights.is_empty() {
            continue;
        }
        let principal = args.principal.clone().unwrap_or_else(|| role.principal(&config.app.name));
        writeln!(out, "\n# {}", role.users())?;
        for (command, right) in commands(&rights, &config.kafka.brokers, &principal).iter().zip(&rights) {
            writeln!(out, "{command} # {}", right.why)?;
        }
    }
    Ok(())
}
