//! What the brokers have to grant to each role: the one list behind `aimpoint topics --acls`, the documentation and the examples.
//!
//! Guarantees: tests/kafka/secured/rights.rs runs each role on a broker with an authorizer, and shows that the list is enough and that each
//! right in it is used. Read and Write include Describe, so that it is not listed with them.

use super::topics;
use crate::{config::Config, serve::ServePartitions};
use std::fmt;

/// A role, or commands that need the same rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Role {
    /// `aimpoint run`.
    Run,
    /// `aimpoint control`.
    Control,
    /// `aimpoint serve`.
    Serve,
    /// `aimpoint erase`, and `POST /erase` of a worker.
    Erase,
    /// Commands that read all that is held: `subject`, `erase --verify`.
    Subject,
    /// Commands that read profiles: `profile`, and `explain` without files.
    Profile,
    /// `aimpoint why`.
    Why,
    /// `aimpoint doctor`.
    Doctor,
    /// `aimpoint topics --create`.
    Topics,
}

impl Role {
    /// All roles.
    pub(crate) const ALL: [Self; 9] = [
        Self::Run,
        Self::Control,
        Self::Serve,
        Self::Erase,
        Self::Subject,
        Self::Profile,
        Self::Why,
        Self::Doctor,
        Self::Topics,
    ];

    /// What has these rights.
    pub(crate) fn users(self) -> &'static str {
        match self {
            Self::Run => "aimpoint run",
            Self::Control => "aimpoint control",
            Self::Serve => "aimpoint serve",
            Self::Erase => "aimpoint erase, and POST /erase of aimpoint run, whose user then needs them as well",
            Self::Subject => "aimpoint subject and aimpoint erase --verify",
            Self::Profile => "aimpoint profile, and aimpoint explain without files",
            Self::Why => "aimpoint why",
            Self::Doctor => "aimpoint doctor",
            Self::Topics => "aimpoint topics --create",
        }
    }

    /// The name of its user, unless another one is given.
    pub(crate) fn principal(self, app: &str) -> String {
        match self {
            Self::Run => format!("User:{app}"),
            Self::Control => format!("User:{app}-control"),
            Self::Serve => format!("User:{app}-serve"),
            Self::Erase => format!("User:{app}-erase"),
            Self::Subject => format!("User:{app}-subject"),
            Self::Profile => format!("User:{app}-profile"),
            Self::Why => format!("User:{app}-why"),
            Self::Doctor => format!("User:{app}-doctor"),
            Self::Topics => format!("User:{app}-topics"),
        }
    }
}

/// What a right is on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Resource {
    /// A topic.
    Topic(String),
    /// A consumer group.
    Group(String),
    /// A transactional id.
    TransactionalId(String),
    /// All transactional ids that begin like this.
    TransactionalIds(String),
    /// The cluster.
    Cluster,
}

impl Resource {
    /// The options of `kafka-acls.sh`.
    fn options(&self) -> String {
        match self {
            Self::Topic(name) => format!("--topic {name}"),
            Self::Group(name) => format!("--group {name}"),
            Self::TransactionalId(name) => format!("--transactional-id {name}"),
            Self::TransactionalIds(prefix) => format!("--transactional-id {prefix} --resource-pattern-type prefixed"),
            Self::Cluster => "--cluster".to_owned(),
        }
    }
}

/// An operation of Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    Read,
    Write,
    Create,
    Alter,
    Describe,
    DescribeConfigs,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The rights on one resource, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Right {
    pub(crate) resource: Resource,
    pub(crate) operations: Vec<Operation>,
    pub(crate) why: &'static str,
}

/// The rights that a role needs with this configuration.
pub(crate) fn rights(role: Role, config: &Config) -> Vec<Right> {
    use Operation::{Alter, Create, Describe, DescribeConfigs, Read, Write};
    let app = &config.app.name;
    let right = |resource, operations: &[Operation], why| Right { resource, operations: operations.to_vec(), why };
    let topic = |name: &str, operations: &[Operation], why| right(Resource::Topic(name.to_owned()), operations, why);
    let names = &config.topics;
    let shadow = names.shadow_scores.as_deref();
    let own = || topics::plans(config).into_iter().map(|plan| plan.name);
    let of_control = || topics::own_control_plans(config).into_iter().map(|plan| plan.name);
    let needs_control = config.needs_control();
    match role {
        Role::Run => {
            let mut all = vec![
                topic(&names.clickstream, &[Read, DescribeConfigs], "the input; its settings are checked at the start"),
                topic(&names.decisions, &[Write, DescribeConfigs], "written in each transaction"),
                topic(&names.dead_letter, &[Write, DescribeConfigs], "written in each transaction"),
                topic(
                    &config.profiles_topic(),
                    &[Read, Write, DescribeConfigs],
                    "the changelog: written, and read back when a partition is taken over",
                ),
            ];
            all.extend(shadow.map(|name| topic(name, &[Write, DescribeConfigs], "the scores of shadow models")));
            if needs_control {
                all.push(topic(&config.policy_topic(), &[Read], "the policy of control"));
                all.push(topic(&config.audiences_topic(), &[Write], "how many users are in each segment, for control"));
            }
            all.push(right(Resource::Group(config.group().to_owned()), &[Read], "joined, and commits positions"));
            all.push(right(
                Resource::TransactionalIds(format!("{app}-@")),
                &[Write],
                "those of the workers, in both modes of delivery; no other application has this prefix",
            ));
            all
        }
        Role::Control if !needs_control => Vec::new(),
        Role::Control => {
            let group = format!("{app}@control");
            vec![
                topic(&names.decisions, &[Read, DescribeConfigs], "what was decided"),
                topic(&names.outcomes, &[Read, DescribeConfigs], "what came of it"),
                topic(&config.audiences_topic(), &[Read, DescribeConfigs], "how many users are in each segment"),
                topic(
                    &config.control_topic(),
                    &[Read, Write, DescribeConfigs],
                    "the state: written in each transaction, followed by standbys, read at a takeover",
                ),
                topic(&config.policy_topic(), &[Write, DescribeConfigs], "written in the same transactions"),
                topic(&names.dead_letter, &[Write, DescribeConfigs], "written in the same transactions"),
                right(Resource::Group(group.clone()), &[Read], "chooses the leader"),
                right(Resource::TransactionalId(group), &[Write], "fences the leader before"),
            ]
        }
        Role::Serve => {
            let spec = config.serve();
            // A snapshot is used for as long as the topic keeps nulls.
            let settings = [Read, DescribeConfigs];
            let operations = if spec.snapshot.is_some() { &settings[..] } else { &settings[..1] };
            let is_shared = spec.partitions == ServePartitions::Assigned;
            let why = if is_shared {
                "what it answers; it writes nothing"
            } else {
                "what it answers; it joins no group and writes nothing"
            };
            let mut all = vec![topic(&names.decisions, operations, why)];
            if is_shared {
                all.push(right(Resource::Group(config.serve_group()), &[Read], "shares the partitions"));
            }
            all
        }
        Role::Erase => vec![topic(&names.clickstream, &[Write], "the request to erase a user, in each partition")],
        Role::Subject => {
            // The topics of control as well, in case they exist.
            let control = [names.outcomes.clone(), config.control_topic(), config.policy_topic()];
            let why = "read to its end; its settings say when a record goes";
            let mut all: Vec<Right> =
                own().chain(control).map(|name| topic(&name, &[Read, DescribeConfigs], why)).collect();
            all.push(right(Resource::Group(config.group().to_owned()), &[Describe], "how far the profiles are"));
            all
        }
        Role::Profile => vec![
            topic(&config.profiles_topic(), &[Read], "the profiles, read to the end"),
            topic(&names.clickstream, &[Describe], "which partitions there are positions for"),
            right(Resource::Group(config.group().to_owned()), &[Describe], "how far the profiles are"),
        ],
        Role::Why => {
            let mut all = vec![topic(&names.decisions, &[Read], "the last decision, read to the end")];
            all.extend(rights(Role::Profile, config));
            all
        }
        Role::Doctor => {
            let mut all = rights(Role::Run, config);
            let is_checked = |right: &Right| {
                let of_control: Vec<Resource> = of_control().map(Resource::Topic).collect();
                !of_control.contains(&right.resource)
            };
            all.retain(is_checked);
            for right in &mut all {
                if let Resource::Topic(name) = &right.resource {
                    let is_input = *name == names.clickstream;
                    right.operations = vec![if is_input { Read } else { Describe }, DescribeConfigs];
                    right.why =
                        if is_input { "its newest records and settings" } else { "that it exists, and its settings" };
                } else if let Resource::Group(_) = right.resource {
                    right.operations = vec![Describe];
                    right.why = "its positions";
                } else {
                    right.why = "that transactions are allowed, with an id of its own";
                }
            }
            if needs_control {
                let seen =
                    |name: String| topic(&name, &[Describe, DescribeConfigs], "that it exists, and its settings");
                all.extend(of_control().map(seen));
            }
            all
        }
        Role::Topics => {
            let mut all: Vec<Right> = Vec::new();
            for name in own().chain(of_control().filter(|_| needs_control)) {
                let grows = [&names.decisions, &config.profiles_topic()].contains(&&name);
                let operations: &[Operation] =
                    if grows { &[Create, Alter, DescribeConfigs] } else { &[Create, Describe, DescribeConfigs] };
                all.push(topic(
                    &name,
                    operations,
                    if grows { "created; gets partitions when the input does" } else { "created" },
                ));
            }
            if names.replication == -1 {
                all.push(right(Resource::Cluster, &[DescribeConfigs], "the default replication factor of the brokers"));
            }
            all
        }
    }
}

/// The commands that grant these rights, each on its own line.
pub(crate) fn commands(rights: &[Right], brokers: &str, principal: &str) -> Vec<String> {
    let quoted = |text: &str| {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":._-,@[]/".contains(&byte));
        if is_plain { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
    };
    let (brokers, principal) = (quoted(brokers), quoted(principal));
    let command = |right: &Right| {
        let operations: Vec<String> = right.operations.iter().map(|it| format!("--operation {it}")).collect();
        let (operations, options) = (operations.join(" "), right.resource.options());
        format!("kafka-acls.sh --bootstrap-server {brokers} --add --allow-principal {principal} {operations} {options}")
    };
    rights.iter().map(command).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// The configuration of the examples: the default names, with control.
    fn config() -> Config {
        Config { control: Some(crate::control::ControlSpec::default()), ..Config::default() }
    }

    /// What deploy/strimzi/user.yaml allows, by user: type and name of the resource, and the operations.
    fn deployed() -> BTreeMap<String, Vec<(String, String)>> {
        let text = include_str!("../../deploy/strimzi/user.yaml");
        let mut users = BTreeMap::new();
        for document in text.split("\n---\n") {
            let name = document.lines().find_map(|line| line.strip_prefix("  name: ")).unwrap().to_owned();
            let (mut acls, mut resource) = (Vec::new(), None);
            for line in document.lines().map(str::trim) {
                if let Some(found) = line.strip_prefix("- resource: ") {
                    resource = Some(found.to_owned());
                } else if let Some(found) = line.strip_prefix("operations: ") {
                    acls.push((resource.take().unwrap(), found.to_owned()));
                }
            }
            users.insert(name, acls);
        }
        users
    }

    fn as_in_strimzi(rights: &[Right]) -> Vec<(String, String)> {
        let rule = |right: &Right| {
            let resource = match &right.resource {
                Resource::Topic(name) => format!("{{type: topic, name: {name}, patternType: literal}}"),
                Resource::Group(name) => format!("{{type: group, name: {name}, patternType: literal}}"),
                Resource::TransactionalId(name) => {
                    format!("{{type: transactionalId, name: {name}, patternType: literal}}")
                }
                Resource::TransactionalIds(name) => {
                    format!("{{type: transactionalId, name: {name}, patternType: prefix}}")
                }
                Resource::Cluster => "{type: cluster}".to_owned(),
            };
            let operations: Vec<String> = right.operations.iter().map(ToString::to_string).collect();
            (resource, format!("[{}]", operations.join(", ")))
        };
        rights.iter().map(rule).collect()
    }

    #[test]
    fn serve_needs_more_to_share_partitions_and_to_trust_a_snapshot() {
        let needed = |set: fn(&mut crate::serve::ServeSpec)| {
            let mut config = Config::default();
            set(config.serve.get_or_insert_default());
            rights(Role::Serve, &config)
        };
        let plain = needed(|_| {});
        assert_eq!((plain.len(), &plain[0].operations), (1, &vec![Operation::Read]));
        let shared = needed(|spec| spec.partitions = ServePartitions::Assigned);
        assert_eq!(shared[1].resource, Resource::Group("aimpoint-@serve".to_owned()));
        let cached = needed(|spec| spec.snapshot = Some("s".into()));
        assert_eq!(cached[0].operations, [Operation::Read, Operation::DescribeConfigs]);
    }

    #[test]
    fn the_users_of_the_deployment_have_these_rights_and_no_others() {
        let users = deployed();
        for (role, user) in
            [(Role::Run, "aimpoint"), (Role::Control, "aimpoint-control"), (Role::Serve, "aimpoint-serve")]
        {
            assert_eq!(users[user], as_in_strimzi(&rights(role, &config())), "{user}");
        }
    }

    #[test]
    fn the_documentation_has_the_list() {
        let page = include_str!("../../deploy/docs/transport.md");
        for role in Role::ALL {
            for Right { resource, operations, why } in rights(role, &config()) {
                let operations: Vec<String> = operations.iter().map(|it| format!("`{it}`")).collect();
                let row = format!("| {} | {} | {why} |", in_words(&resource), operations.join(", "));
                assert!(page.contains(&row), "deploy/docs/transport.md lacks, for {role:?}:\n{row}");
            }
        }
    }

    fn in_words(resource: &Resource) -> String {
        match resource {
            Resource::Topic(name) => format!("topic `{name}`"),
            Resource::Group(name) => format!("group `{name}`"),
            Resource::TransactionalId(name) => format!("transactional id `{name}`"),
            Resource::TransactionalIds(prefix) => format!("transactional ids with the prefix `{prefix}`"),
            Resource::Cluster => "cluster".to_owned(),
        }
    }

    #[test]
    fn the_commands_name_every_resource_and_quote_what_a_shell_would_read() {
        let commands = commands(&rights(Role::Run, &config()), "kafka:9092", "User:CN=a'b, O=c");
        assert!(
            commands[0].starts_with(
                "kafka-acls.sh --bootstrap-server kafka:9092 --add --allow-principal 'User:CN=a'\\''b, O=c'"
            )
        );
        assert!(
            commands[0].ends_with(" --operation Read --operation DescribeConfigs --topic clickstream"),
            "{commands:?}"
        );
        let last = commands.last().unwrap();
        assert!(
            last.ends_with("--operation Write --transactional-id aimpoint-@ --resource-pattern-type prefixed"),
            "{last}"
        );
    }

    #[test]
    fn rights_for_control_are_listed_only_with_control() {
        let without = Config::default();
        assert!(!without.needs_control() && rights(Role::Control, &without).is_empty());
        let names = |config: &Config| rights(Role::Run, config).into_iter().map(|it| it.resource).collect::<Vec<_>>();
        let policy = Resource::Topic("aimpoint-policy".to_owned());
        assert!(!names(&without).contains(&policy) && names(&config()).contains(&policy));
    }

    /// Describe is within Read, Write and Alter.
    #[test]
    fn no_right_includes_another_one() {
        for role in Role::ALL {
            for right in rights(role, &config()) {
                let has = |operation| right.operations.contains(&operation);
                let includes = has(Operation::Read) || has(Operation::Write) || has(Operation::Alter);
                assert!(!(includes && has(Operation::Describe)), "{role:?} {right:?}");
            }
        }
    }
}
