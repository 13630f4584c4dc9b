//! Serve in the chart, in the examples for Strimzi, and in Compose.

use crate::{
    chart::{allowed, environment, helm_template, named},
    documents, output, text, yaml,
};
use serde_json::{Value, json};
use std::process::Command;

const SECURE: &str = "tests/deploy/golden/secure.yaml";

fn selects(selector: &Value, labels: &Value) -> bool {
    selector.as_object().unwrap().iter().all(|(name, value)| labels[name] == *value)
}

fn labels(rendered: &str, kind: &str, name: &str) -> Value {
    named(rendered, kind, name)["spec"]["template"]["metadata"]["labels"].clone()
}

/// Whatever selects the pods of one role selects no other's.
#[test]
fn serve_has_its_own_pods_service_budget_network_policy_and_scrape() {
    assert!(!text("tests/deploy/golden/default.yaml").contains("serve"), "it is off by default");
    let secure = text(SECURE);
    let pods = [("StatefulSet", "aimpoint"), ("Deployment", "aimpoint-control"), ("Deployment", "aimpoint-serve")];
    let pods = pods.map(|(kind, name)| (name, labels(&secure, kind, name)));
    for (kind, path, own) in [
        ("Service", "/spec/selector", "aimpoint-serve"),
        ("Service", "/spec/selector", "aimpoint-serve-metrics"),
        ("PodDisruptionBudget", "/spec/selector/matchLabels", "aimpoint-serve"),
        ("NetworkPolicy", "/spec/podSelector/matchLabels", "aimpoint-serve"),
    ] {
        let selector = named(&secure, kind, own).pointer(path).unwrap().clone();
        for (name, labels) in &pods {
            assert_eq!(selects(&selector, labels), *name == "aimpoint-serve", "{kind} {own} and {name}: {selector}");
        }
    }
    // Bidders reach pods that are ready, and nothing but answers. Prometheus also reaches those that are not.
    let port = |name: &str| named(&secure, "Service", name)["spec"]["ports"].clone();
    assert_eq!(port("aimpoint-serve"), json!([{"name": "http", "port": 9470, "targetPort": "http"}]));
    assert!(named(&secure, "Service", "aimpoint-serve")["spec"]["publishNotReadyAddresses"].is_null());
    assert_eq!(port("aimpoint-serve-metrics"), json!([{"name": "metrics", "port": 9464, "targetPort": "metrics"}]));
    assert_eq!(named(&secure, "Service", "aimpoint-serve-metrics")["spec"]["publishNotReadyAddresses"], true);
    let monitor = named(&secure, "ServiceMonitor", "aimpoint-serve");
    let endpoint = &monitor["spec"]["endpoints"][0];
    assert_eq!(
        (&endpoint["port"], &endpoint["relabelings"][0]["replacement"]),
        (&json!("metrics"), &json!("aimpoint"))
    );

    let ingress = |name: &str| named(&secure, "NetworkPolicy", name)["spec"]["ingress"].as_array().unwrap().clone();
    let bidders = json!({"ports": [{"port": 9470, "protocol": "TCP"}], "from": [{"namespaceSelector":
        {"matchLabels": {"kubernetes.io/metadata.name": "bidders"}}}]});
    assert_eq!(ingress("aimpoint-serve")[1..], [bidders]);
    for other in ["aimpoint", "aimpoint-control"] {
        assert_eq!(ingress(other).len(), 1, "bidders do not reach {other}");
    }
}

#[test]
fn serve_scales_by_cpu_with_a_thread_for_each() {
    let secure = text(SECURE);
    let deployment = named(&secure, "Deployment", "aimpoint-serve");
    assert!(deployment["spec"]["replicas"].is_null(), "the autoscaler decides");
    let scaler = &named(&secure, "HorizontalPodAutoscaler", "aimpoint-serve")["spec"];
    assert_eq!(scaler["scaleTargetRef"]["name"], deployment["metadata"]["name"]);
    assert_eq!((&scaler["minReplicas"], &scaler["maxReplicas"]), (&json!(2), &json!(6)));
    assert_eq!(scaler["metrics"][0]["resource"]["target"], json!({"type": "Utilization", "averageUtilization": 60}));
    assert!(deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"].is_string());

    let fixed = output(&mut helm_template(&["--set", "serve.enabled=true,serve.replicaCount=3"]));
    assert_eq!(named(&fixed, "Deployment", "aimpoint-serve")["spec"]["replicas"], 3);
    assert!(!documents(&fixed).iter().any(|it| it["kind"] == "HorizontalPodAutoscaler"));
    let threads = |config: &str| {
        let set = format!("config={config}");
        let rendered = output(&mut helm_template(&["--set", "serve.enabled=true", "--set", &set]));
        environment(&named(&rendered, "Deployment", "aimpoint-serve")).remove("AIMPOINT__SERVE__THREADS")
    };
    assert_eq!((threads("[app]"), threads("[serve]\nthreads = 3")), (Some(None), None));
}

#[test]
fn serve_has_a_token_and_a_user_of_its_own() {
    let deployment = named(&text(SECURE), "Deployment", "aimpoint-serve");
    let variables = environment(&deployment);
    assert_eq!(variables["AIMPOINT__KAFKA__CLIENT__SASL_USERNAME"].as_deref(), Some("aimpoint-serve"));
    for worker_s in ["AIMPOINT__APP__STATIC_MEMBERSHIP", "AIMPOINT__ENGINE__WORKERS"] {
        assert!(!variables.contains_key(worker_s), "{worker_s} says nothing to serve");
    }
    let all = deployment["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
    for (name, secret) in
        [("AIMPOINT__SERVE__TOKEN", "aimpoint-bidders"), ("AIMPOINT__KAFKA__CLIENT__SASL_PASSWORD", "aimpoint-serve")]
    {
        let found: Vec<_> = all.iter().filter(|it| it["name"] == name).collect();
        assert_eq!(found.len(), 1, "{name}");
        assert_eq!(found[0]["valueFrom"]["secretKeyRef"]["name"], secret, "{name}");
    }
    let expected = [("topic decisions".to_owned(), vec!["Read".to_owned()])];
    assert_eq!(allowed("aimpoint-serve"), expected, "it may read decisions and nothing else");
}

#[test]
fn the_files_of_tls_are_mounted_from_a_secret() {
    let container = |set: &str| {
        let rendered = output(&mut helm_template(&["--set", &format!("serve.enabled=true,{set}")]));
        let deployment = named(&rendered, "Deployment", "aimpoint-serve");
        let pod = deployment["spec"]["template"]["spec"].clone();
        (environment(&deployment), pod["volumes"].clone(), pod["containers"][0]["volumeMounts"].clone())
    };
    let (variables, volumes, mounts) = container("serve.tlsSecret=serve-tls,serve.tlsClientCaKey=ca.crt");
    let tls = volumes.as_array().unwrap().iter().find(|it| it["name"] == "tls").unwrap();
    assert_eq!(tls["secret"]["secretName"], "serve-tls");
    assert_eq!(tls["secret"]["defaultMode"], 288, "nobody else reads the key");
    let mount = mounts.as_array().unwrap().iter().find(|it| it["name"] == "tls").unwrap();
    assert_eq!(mount["readOnly"], true);
    let folder = mount["mountPath"].as_str().unwrap();
    for (name, file) in [("CERTIFICATE", "tls.crt"), ("KEY", "tls.key"), ("CLIENT_CA", "ca.crt")] {
        let variable = format!("AIMPOINT__SERVE__TLS__{name}");
        assert_eq!(variables[&variable].as_deref(), Some(format!("{folder}/{file}").as_str()));
    }
    let (variables, volumes, _) = container("serve.tlsSecret=serve-tls");
    assert!(!variables.contains_key("AIMPOINT__SERVE__TLS__CLIENT_CA") && volumes.to_string().contains("serve-tls"));
    let (variables, volumes, _) = container("serve.port=9470");
    assert!(!variables.keys().any(|name| name.contains("TLS")) && !volumes.to_string().contains("tls"));
}

/// Bidders and hosts of agents reach the port of gRPC, and the program knows the variable.
#[test]
fn hosts_of_agents_reach_the_port_of_grpc() {
    let rendered = |set: &str| {
        output(&mut helm_template(&["--set", &format!("serve.enabled=true,networkPolicy.enabled=true{set}")]))
    };
    assert!(!rendered("").contains("grpc"), "it is off by default");
    for (set, protocol) in [("", "kubernetes.io/h2c"), (",serve.tlsSecret=t", "https")] {
        let rendered = rendered(&format!(",serve.grpc.enabled=true,serve.grpc.port=9999{set}"));
        let deployment = named(&rendered, "Deployment", "aimpoint-serve");
        assert_eq!(environment(&deployment)["AIMPOINT__SERVE__GRPC__ADDRESS"].as_deref(), Some("0.0.0.0:9999"));
        let ports = deployment["spec"]["template"]["spec"]["containers"][0]["ports"].clone();
        assert!(ports.as_array().unwrap().contains(&json!({"name": "grpc", "containerPort": 9999})), "{ports}");
        let ports = named(&rendered, "Service", "aimpoint-serve")["spec"]["ports"].clone();
        let expected = json!({"name": "grpc", "port": 9999, "targetPort": "grpc", "appProtocol": protocol});
        assert_eq!(ports[1], expected);
        let policy = named(&rendered, "NetworkPolicy", "aimpoint-serve");
        let open = policy["spec"]["ingress"][1]["ports"].clone();
        assert!(open.as_array().unwrap().contains(&json!({"port": 9999, "protocol": "TCP"})), "{open}");
    }
}

/// The program knows the variables that the chart sets for shared partitions and snapshots.
#[test]
fn pods_that_share_the_partitions_say_where_they_are() {
    let rendered = |set: &str| {
        let all = format!("serve.enabled=true,serve.partitions=assigned,serve.snapshot.enabled=true{set}");
        output(&mut helm_template(&["--set", &all]))
    };
    let variables = environment(&named(&rendered(""), "Deployment", "aimpoint-serve"));
    assert_eq!(variables["AIMPOINT__SERVE__ADVERTISE"].as_deref(), Some("http://$(POD_IP):9470"));
    let with_tls = environment(&named(&rendered(",serve.tlsSecret=t"), "Deployment", "aimpoint-serve"));
    assert_eq!(with_tls["AIMPOINT__SERVE__ADVERTISE"].as_deref(), Some("https://$(POD_IP):9470"));
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("aimpoint.toml");
    std::fs::write(&config, "").unwrap();
    let mut shown = Command::new(env!("CARGO_BIN_EXE_aimpoint"));
    shown.args(["serve", "--set", "admin.address=127.0.0.1:0", "--set", "serve.address=127.0.0.1:0", "--config"]);
    for name in ["PARTITIONS", "ADVERTISE", "SNAPSHOT"].map(|name| format!("AIMPOINT__SERVE__{name}")) {
        shown.env(&name, variables[&name].as_ref().unwrap().replace("$(POD_IP)", "10.0.0.5"));
    }
    let run = shown.arg(&config).env("AIMPOINT__KAFKA__BROKERS", "127.0.0.1:1").output().unwrap();
    assert_eq!(
        run.status.code(),
        Some(69),
        "no broker is all that is missing: {}",
        String::from_utf8_lossy(&run.stderr)
    );
}

/// Without this, a worker's user could fence control.
#[test]
fn the_transactional_ids_of_workers_and_control_are_apart() {
    let id = |user: &str| {
        let all = allowed(user);
        let ids: Vec<_> = all.iter().filter_map(|(name, _)| name.strip_prefix("transactionalId ")).collect();
        assert_eq!(ids.len(), 1, "{user}: {all:?}");
        ids[0].to_owned()
    };
    let (workers, control) = (id("aimpoint"), id("aimpoint-control"));
    assert!(!control.starts_with(&workers), "{workers} covers {control}");
    // Nor does it cover the workers of an application whose name begins with this one.
    assert!(!"aimpoint-eu-@pod-0-0".starts_with(&workers), "{workers}");
    assert!("aimpoint-@pod-0-0".starts_with(&workers), "{workers}");
}

/// The program accepts what the chart and Compose give serve, and gets as far as the broker.
#[test]
fn the_program_accepts_the_arguments_for_serve() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("aimpoint.toml");
    let secure = text(SECURE);
    let deployment = named(&secure, "Deployment", "aimpoint-serve");
    let toml = named(&secure, "ConfigMap", "aimpoint")["data"]["aimpoint.toml"].as_str().unwrap().to_owned();
    let service = &yaml("deploy/compose/compose.yaml")["services"]["serve"];
    let of_chart = &deployment["spec"]["template"]["spec"]["containers"][0]["args"];
    for (place, arguments, toml) in
        [("chart", of_chart, toml), ("compose", &service["command"], text("deploy/demo/aimpoint.toml"))]
    {
        std::fs::write(&config, toml).unwrap();
        let mut serve = Command::new(env!("CARGO_BIN_EXE_aimpoint"));
        for argument in arguments.as_array().unwrap() {
            match argument.as_str().unwrap() {
                "/etc/aimpoint/aimpoint.toml" => serve.arg(&config),
                "0.0.0.0:9464" | "0.0.0.0:9470" => serve.arg("127.0.0.1:0"),
                other => serve.arg(other),
            };
        }
        if place == "chart" {
            let plain = environment(&deployment).into_iter().filter(|(name, _)| !name.contains("__CLIENT__"));
            let filled = |name: &str| if name.ends_with("THREADS") { "2" } else { "0123456789abcdef" }.to_owned();
            serve.envs(plain.map(|(name, value)| (name.clone(), value.unwrap_or_else(|| filled(&name)))));
        }
        let run = serve.env("AIMPOINT__KAFKA__BROKERS", "127.0.0.1:1").output().unwrap();
        let said = [run.stdout, run.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        assert_eq!(run.status.code(), Some(69), "{place}: no broker is all that is missing: {said}");
    }
}
