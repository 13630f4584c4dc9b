//! The Helm chart and the examples for Strimzi.

use crate::{documents, output, repository, text, tool};
use serde_json::{Value, json};
use std::{collections::BTreeMap, process::Command};

const CHART: &str = "deploy/helm/aimpoint";
/// The name of a case and its values.
const CASES: [(&str, &[&str]); 3] = [
    ("default", &[]),
    ("secure", &["--values", "deploy/helm/values-secure.yaml"]),
    ("cuda", &["--values", "deploy/helm/values-cuda.yaml"]),
];
/// The Kubernetes version of the schemas in `schemas/`.
const KUBERNETES: &str = "1.34.0";

pub(crate) fn helm_template(arguments: &[&str]) -> Command {
    let mut helm = tool("helm");
    helm.args(["template", "aimpoint", CHART, "--namespace", "streaming", "--kube-version", KUBERNETES])
        .args(arguments);
    helm
}

fn kubeconform(path: &str) -> String {
    let schemas = "tests/deploy/schemas/{{.ResourceKind}}{{.KindSuffix}}.json";
    output(tool("kubeconform").args(["-strict", "-summary", "-schema-location", schemas, path]))
}

/// The rendered object of a kind.
fn object(rendered: &str, kind: &str) -> Value {
    documents(rendered)
        .into_iter()
        .find(|document| document["kind"] == kind)
        .unwrap_or_else(|| panic!("no {kind} in:\n{rendered}"))
}

/// The environment of the container, without values from secrets and the pod.
pub(crate) fn environment(stateful_set: &Value) -> BTreeMap<String, Option<String>> {
    let variables = stateful_set["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
    let value = |variable: &Value| variable["value"].as_str().map(str::to_owned);
    variables.iter().map(|variable| (variable["name"].as_str().unwrap().to_owned(), value(variable))).collect()
}

#[test]
fn helm_lint_has_no_findings() {
    for (name, arguments) in CASES {
        let said = output(tool("helm").args(["lint", "--strict", "--kube-version", KUBERNETES, CHART]).args(arguments));
        assert!(said.contains("1 chart(s) linted, 0 chart(s) failed"), "{name}: {said}");
    }
}

#[test]
fn the_chart_renders_as_before_and_is_valid_for_kubernetes() {
    for (name, arguments) in CASES {
        let rendered = output(&mut helm_template(arguments));
        let golden = format!("tests/deploy/golden/{name}.yaml");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(repository(&golden), &rendered).unwrap();
        }
        assert_eq!(
            rendered,
            text(&golden),
            "{golden}: where this is meant, run UPDATE_GOLDEN=1 cargo test --test deploy"
        );
        let said = kubeconform(&golden);
        let count = documents(&rendered).len();
        let all = format!("{count} resources found in 1 file - Valid: {count}, Invalid: 0, Errors: 0, Skipped: 0");
        assert!(said.contains(&all), "{name}: {said}");
    }
}

#[test]
fn topics_and_users_are_valid_for_strimzi() {
    let said = kubeconform("deploy/strimzi");
    assert!(said.contains("13 resources found in 2 files - Valid: 13, Invalid: 0, Errors: 0, Skipped: 0"), "{said}");
}

#[test]
fn an_invalid_manifest_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.yaml");
    let valid = text("tests/deploy/golden/default.yaml");
    for (from, to) in [("podManagementPolicy:", "podManagmentPolicy:"), ("replicas: 2", "replicas: two")] {
        assert!(valid.contains(from), "{from}");
        std::fs::write(&broken, valid.replace(from, to)).unwrap();
        let schemas = "tests/deploy/schemas/{{.ResourceKind}}{{.KindSuffix}}.json";
        let said = tool("kubeconform").args(["-strict", "-schema-location", schemas]).arg(&broken).output().unwrap();
        assert!(!said.status.success(), "{to} was taken");
    }
}

#[test]
fn invalid_values_are_rejected_with_their_path() {
    for (set, place) in [
        ("replicas=3", "additional properties 'replicas' not allowed"),
        ("kafka.brokers=kafka", "/kafka/brokers"),
        ("kafka.sasl.mechanism=SCRAM", "/kafka/sasl/mechanism"),
        ("kafka.sasl.mechanism=PLAIN", "/kafka/sasl/passwordSecret"),
        ("replicaCount=two", "/replicaCount"),
        ("config=", "/config"),
        ("metrics.port=80", "/metrics/port"),
        ("control.replicaCount=0", "/control/replicaCount"),
        ("control.replicas=2", "additional properties 'replicas' not allowed"),
        ("serve.port=80", "/serve/port"),
        ("serve.autoscaling.cpuPercent=0", "/serve/autoscaling/cpuPercent"),
        ("podDisruptionBudget.maxUnavailable=0", "/podDisruptionBudget/maxUnavailable"),
    ] {
        let refused = helm_template(&["--set", set]).output().unwrap();
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(!refused.status.success() && said.contains(place), "{set}: {said}");
    }
}

#[test]
fn secrets_reach_the_client_only_from_secrets() {
    let secure = object(&text("tests/deploy/golden/secure.yaml"), "StatefulSet");
    let variables = environment(&secure);
    for name in ["AIMPOINT__KAFKA__CLIENT__SASL_PASSWORD", "AIMPOINT__KAFKA__CLIENT__SSL_CA_PEM"] {
        assert_eq!(variables.get(name), Some(&None), "{name} has to come from a secret");
    }
    assert_eq!(variables["AIMPOINT__KAFKA__CLIENT__SECURITY_PROTOCOL"].as_deref(), Some("SASL_SSL"));
    let cuda = environment(&object(&text("tests/deploy/golden/cuda.yaml"), "StatefulSet"));
    assert_eq!(cuda["AIMPOINT__KAFKA__CLIENT__SECURITY_PROTOCOL"].as_deref(), Some("SSL"));
    assert_eq!(cuda.get("AIMPOINT__KAFKA__CLIENT__SSL_KEY_PEM"), Some(&None));
}

/// The variables of the container, with the sources of those that Kubernetes fills in.
fn sources(rendered: &str) -> BTreeMap<String, Value> {
    let stateful_set = object(rendered, "StatefulSet");
    let variables = stateful_set["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap().clone();
    let named = |it: Value| (it["name"].as_str().unwrap().to_owned(), it["valueFrom"].clone());
    variables.into_iter().map(named).collect()
}

#[test]
fn prometheus_uses_the_token_of_the_process() {
    let monitored = ["--set", "metrics.serviceMonitor.enabled=true"];
    let open = output(&mut helm_template(&monitored));
    assert!(object(&open, "ServiceMonitor")["spec"]["endpoints"][0]["authorization"].is_null());
    assert!(!sources(&open).contains_key("AIMPOINT__ADMIN__TOKEN"));

    let closed =
        output(helm_template(&monitored).args(["--set", "metrics.tokenSecret=door", "--set", "metrics.tokenKey=key"]));
    let secret = json!({"name": "door", "key": "key"});
    let authorization = &object(&closed, "ServiceMonitor")["spec"]["endpoints"][0]["authorization"];
    assert_eq!(*authorization, json!({"type": "Bearer", "credentials": secret}));
    assert_eq!(sources(&closed)["AIMPOINT__ADMIN__TOKEN"], json!({"secretKeyRef": secret}));

    // A token unknown to Prometheus.
    for set in [
        "config=[admin]\ntoken = \"0123456789abcdef\"",
        "env[0].name=AIMPOINT__ADMIN__TOKEN,env[0].value=0123456789abcdef",
    ] {
        let refused = helm_template(&monitored).args(["--set", set]).output().unwrap();
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(!refused.status.success() && said.contains("metrics.tokenSecret: admin.token is set"), "{set}: {said}");
        assert!(!said.contains("0123456789abcdef"), "{said}");
    }
}

#[test]
fn scaling_and_monitoring_follow_the_application_s_name_and_topic() {
    let folder = tempfile::tempdir().unwrap();
    let values = folder.path().join("values.yaml");
    let trigger = |config: &str, sets: &[&str]| {
        std::fs::write(&values, json!({"config": config, "autoscaling": {"enabled": true}}).to_string()).unwrap();
        let mut helm = helm_template(&["--values", values.to_str().unwrap()]);
        for set in sets {
            helm.args(["--set", set]);
        }
        let rendered = output(&mut helm);
        let trigger = object(&rendered, "ScaledObject")["spec"]["triggers"][0]["metadata"].clone();
        [&trigger["consumerGroup"], &trigger["topic"]].map(|it| it.as_str().unwrap().to_owned())
    };
    for (config, group, topic) in [
        ("[app]\nname = \"shop\"\n", "shop", "clickstream"),
        (
            "# ours\n[app]   # the shop's\n\n# its name\nname='shop' # or so\n[topics]\nclickstream = \"clicks\"",
            "shop",
            "clicks",
        ),
        (
            "[topics]\ndecisions = \"d\"\n\n  clickstream = \"c.1\"\n[app]\nstatic_membership = true\n  name = \"a-b\"",
            "a-b",
            "c.1",
        ),
        // Names of other applications.
        ("[[feature]]\nname = \"views\"\naggregate = \"count\"\nwindow = \"1h\"\n", "aimpoint", "clickstream"),
        ("[app]\n[model]\nname = \"m\"\npath = \"m.onnx\"\n", "aimpoint", "clickstream"),
    ] {
        assert_eq!(trigger(config, &[]), [group, topic], "{config}");
    }
    let config = "[app]\nname = \"shop\"\n";
    assert_eq!(trigger(config, &["env[0].name=AIMPOINT__APP__NAME,env[0].value=news"])[0], "news");
    assert_eq!(trigger(config, &["autoscaling.consumerGroup=other"])[0], "other");
}

#[test]
fn by_default_there_are_as_many_workers_as_requested_cpus() {
    let with = |set: &str| {
        let rendered = output(&mut helm_template(&["--set-string", set]));
        sources(&rendered).remove("AIMPOINT__ENGINE__WORKERS")
    };
    let asked = json!({"resourceFieldRef": {"resource": "requests.cpu", "divisor": "1"}});
    assert_eq!(with("podLabels.team=ads"), Some(asked));
    assert_eq!(with("config=[engine]\nworkers = 3"), None);
    assert_eq!(with("env[0].name=AIMPOINT__ENGINE__WORKERS,env[0].value=3"), Some(Value::Null));
}

#[test]
fn a_changed_configuration_restarts_the_pods_unless_they_reload_it() {
    let annotation = |set: &str| {
        let stateful_set = object(&output(&mut helm_template(&["--set", set])), "StatefulSet");
        stateful_set["spec"]["template"]["metadata"]["annotations"]["checksum/config"].clone()
    };
    assert!(annotation("restartOnConfig=true").is_string());
    assert_ne!(annotation("config=[app]"), annotation("config=[log]"));
    assert!(annotation("restartOnConfig=false").is_null());
}

/// The program accepts the file, variables and arguments of the chart, and gets as far as the broker.
#[test]
fn the_program_accepts_the_chart_s_configuration_and_arguments() {
    for (name, code, part) in [
        ("default", 69, "reach a broker at 127.0.0.1:1"),
        ("secure", 0, "browsing"),
        // This volume does not exist here; everything before it was accepted.
        ("cuda", 66, "/model/model.onnx"),
    ] {
        let rendered = text(&format!("tests/deploy/golden/{name}.yaml"));
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("aimpoint.toml");
        let toml = object(&rendered, "ConfigMap")["data"]["aimpoint.toml"].as_str().unwrap().to_owned();
        std::fs::write(&config, toml).unwrap();
        let stateful_set = object(&rendered, "StatefulSet");
        let mut aimpoint = Command::new(env!("CARGO_BIN_EXE_aimpoint"));
        if code == 69 {
            let container = &stateful_set["spec"]["template"]["spec"]["containers"][0];
            for argument in container["args"].as_array().unwrap() {
                match argument.as_str().unwrap() {
                    "/etc/aimpoint/aimpoint.toml" => aimpoint.arg(&config),
                    "0.0.0.0:9464" => aimpoint.arg("127.0.0.1:0"),
                    other => aimpoint.arg(other),
                };
            }
        } else {
            aimpoint.args(["check", "--offline", "--config"]).arg(&config);
        }
        if name == "cuda" {
            // The test build does not have this provider, and reports it before loading the model.
            aimpoint.args(["--set", "model.providers=[\"cpu\"]"]);
        }
        // TLS settings are known only to a client built with TLS, as in the image.
        let plain = environment(&stateful_set).into_iter().filter(|(name, _)| !name.contains("__CLIENT__"));
        // Filled in by Kubernetes.
        let filled = |name: &str| match name {
            "AIMPOINT__ENGINE__WORKERS" => "2",
            "AIMPOINT__ADMIN__TOKEN" => "0123456789abcdef",
            _ => "aimpoint-0",
        };
        aimpoint.envs(plain.map(|(name, value)| {
            let value = value.unwrap_or_else(|| filled(&name).to_owned());
            (name, value)
        }));
        aimpoint.env("AIMPOINT__KAFKA__BROKERS", "127.0.0.1:1");
        let run = aimpoint.output().unwrap();
        let said = [run.stdout, run.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        assert_eq!((run.status.code(), said.contains(part)), (Some(code), true), "{name}: {said}");
    }
}

/// The object of a kind with this name.
pub(crate) fn named(rendered: &str, kind: &str, name: &str) -> Value {
    let is_it = |it: &Value| it["kind"] == kind && it["metadata"]["name"] == name;
    documents(rendered).into_iter().find(is_it).unwrap_or_else(|| panic!("no {kind} {name} in:\n{rendered}"))
}

/// Whatever selects the workers must not select control, and the other way round: a budget, a service or a set of both
/// would be of neither.
#[test]
fn control_has_its_own_pods_budget_network_policy_and_scrape() {
    let without = text("tests/deploy/golden/default.yaml");
    assert!(!without.contains("control"), "it is off by default");
    let secure = text("tests/deploy/golden/secure.yaml");
    let labels = |kind: &str, name: &str| named(&secure, kind, name)["spec"]["template"]["metadata"]["labels"].clone();
    let [workers, control] =
        [("StatefulSet", "aimpoint"), ("Deployment", "aimpoint-control")].map(|(kind, name)| labels(kind, name));
    let selects = |selector: &Value, labels: &Value| {
        selector.as_object().unwrap().iter().all(|(name, value)| labels[name] == *value)
    };
    for (kind, path) in [
        ("Service", "/spec/selector"),
        ("PodDisruptionBudget", "/spec/selector/matchLabels"),
        ("NetworkPolicy", "/spec/podSelector/matchLabels"),
        ("ServiceMonitor", "/spec/selector/matchLabels"),
    ] {
        for (name, own, other) in [("aimpoint", &workers, &control), ("aimpoint-control", &control, &workers)] {
            let selector = named(&secure, kind, name).pointer(path).unwrap().clone();
            assert!(selects(&selector, own) && !selects(&selector, other), "{kind} {name}: {selector}");
        }
    }
    let service = &named(&secure, "Service", "aimpoint-control")["metadata"]["labels"];
    assert!(selects(&named(&secure, "ServiceMonitor", "aimpoint-control")["spec"]["selector"]["matchLabels"], service));
    // The rules know one job of a release.
    let endpoint = &named(&secure, "ServiceMonitor", "aimpoint-control")["spec"]["endpoints"][0];
    assert_eq!(endpoint["relabelings"][0], json!({"targetLabel": "job", "replacement": "aimpoint"}));
    assert_eq!(
        endpoint["authorization"],
        json!({"type": "Bearer", "credentials": {"name": "aimpoint-admin", "key": "token"}})
    );

    let deployment = named(&secure, "Deployment", "aimpoint-control");
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!((&deployment["spec"]["replicas"], &container["args"][0]), (&json!(2), &json!("control")));
    let variables = environment(&deployment);
    assert_eq!(variables["AIMPOINT__KAFKA__CLIENT__SASL_USERNAME"].as_deref(), Some("aimpoint-control"));
    assert_eq!(variables["AIMPOINT__KAFKA__CLIENT__SASL_MECHANISM"].as_deref(), Some("SCRAM-SHA-512"));
    let password = container["env"].as_array().unwrap().iter();
    let password = password.filter(|it| it["name"] == "AIMPOINT__KAFKA__CLIENT__SASL_PASSWORD").collect::<Vec<_>>();
    assert_eq!(password[0]["valueFrom"]["secretKeyRef"]["name"], "aimpoint-control");
    for worker_s in ["AIMPOINT__APP__STATIC_MEMBERSHIP", "AIMPOINT__ENGINE__WORKERS"] {
        assert!(!variables.contains_key(worker_s), "{worker_s} says nothing to control");
    }
    // Without a user of its own, it is the workers'.
    let shared =
        output(helm_template(&["--values", "deploy/helm/values-secure.yaml"]).args(["--set", "control.kafka=null"]));
    let user = environment(&named(&shared, "Deployment", "aimpoint-control"));
    assert_eq!(user["AIMPOINT__KAFKA__CLIENT__SASL_USERNAME"].as_deref(), Some("aimpoint"));
}

/// The program accepts what the chart gives control, and gets as far as the broker.
#[test]
fn the_program_accepts_the_chart_s_arguments_for_control() {
    let rendered = text("tests/deploy/golden/secure.yaml");
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("aimpoint.toml");
    let toml = object(&rendered, "ConfigMap")["data"]["aimpoint.toml"].as_str().unwrap().to_owned();
    std::fs::write(&config, toml).unwrap();
    let deployment = object(&rendered, "Deployment");
    let mut control = Command::new(env!("CARGO_BIN_EXE_aimpoint"));
    for argument in deployment["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap() {
        match argument.as_str().unwrap() {
            "/etc/aimpoint/aimpoint.toml" => control.arg(&config),
            "0.0.0.0:9464" => control.arg("127.0.0.1:0"),
            other => control.arg(other),
        };
    }
    let plain = environment(&deployment).into_iter().filter(|(name, _)| !name.contains("__CLIENT__"));
    control.envs(plain.map(|(name, value)| (name, value.unwrap_or_else(|| "0123456789abcdef".to_owned()))));
    let run = control.env("AIMPOINT__KAFKA__BROKERS", "127.0.0.1:1").output().unwrap();
    let said = [run.stdout, run.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    assert_eq!((run.status.code(), said.contains("reach a broker at 127.0.0.1:1")), (Some(69), true), "{said}");
}

/// What Strimzi allows a user: resources with their operations.
pub(crate) fn allowed(user: &str) -> Vec<(String, Vec<String>)> {
    let user = named(&text("deploy/strimzi/user.yaml"), "KafkaUser", user);
    user["spec"]["authorization"]["acls"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| {
            let resource = &rule["resource"];
            let name = resource["name"].as_str().unwrap_or_default();
            let operations = rule["operations"].as_array().unwrap().iter();
            (
                format!("{} {name}", resource["type"].as_str().unwrap()).trim_end().to_owned(),
                operations.map(|operation| operation.as_str().unwrap().to_owned()).collect(),
            )
        })
        .collect()
}

#[test]
fn every_topic_is_of_a_user_and_has_the_partitions_and_policy_that_it_needs() {
    // src/app/rights.rs compares them with the list behind aimpoint topics --acls.
    let allowed = allowed("aimpoint");
    let control = self::allowed("aimpoint-control");
    let topics = documents(&text("deploy/strimzi/topics.yaml"));
    for topic in &topics {
        let name = topic["metadata"]["name"].as_str().unwrap();
        let users = allowed.iter().chain(&control);
        assert!(users.clone().any(|(resource, _)| *resource == format!("topic {name}")), "{name} is nobody's");
        // The state and the policy of control are one fold, and reports of audiences are few.
        let is_single = ["aimpoint-control", "aimpoint-policy", "aimpoint-audiences"].contains(&name);
        let partitions = if is_single { &json!(1) } else { &topics[0]["spec"]["partitions"] };
        assert_eq!(topic["spec"]["partitions"], *partitions, "{name}");
        assert_eq!(topic["spec"]["config"]["cleanup.policy"] == "compact", is_single || name == "aimpoint-profiles");
    }
}
