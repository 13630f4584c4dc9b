use super::*;

fn load(text: &str, environment: &[(&str, &str)], sets: &[&str]) -> Result<Config, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("aimpoint.toml");
    std::fs::write(&path, text).expect("a file in it");
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    match Config::load(Some(&path), environment, &sets) {
        Ok((config, _)) => Ok(config),
        Err(ConfigError::Faulty(text)) => Err(text.replace(&path.display().to_string(), "aimpoint.toml")),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn the_commented_defaults_are_the_defaults() {
    assert_eq!(load(DEFAULTS, &[], &[]), load("", &[], &[]));
    assert!(load(DEFAULTS, &[], &[]).is_ok());
}

#[test]
fn every_fault_is_told_at_once_with_its_place() {
    let text = "\
[kafka]
brokers = 5

[kafka.client]
\"group.id\" = \"x\"

[commit]
interval = \"soon\"

[enigne]
workers = 2

[topics]
decisions = \"clickstream\"

[[segment]]
id = \"a\"
were = \"true\"
";
    let told = load(text, &[], &[]).expect_err("nothing here can be meant");
    for part in [
        "aimpoint.toml:2:11: kafka.brokers: ",
        "aimpoint.toml:8:12: commit.interval: ",
        "enigne: there is no such section",
        "did you mean [engine]?",
        "topics.decisions: \"clickstream\" is topics.clickstream already",
        "segment[0].were: unknown field `were`",
        "    2 | brokers = 5\n      |           ^\n",
    ] {
        assert!(told.contains(part), "{part:?} is missing in:\n{told}");
    }
}

#[test]
fn a_setting_that_carries_the_guarantees_is_refused_by_name() {
    let told = load("[kafka.consumer]\n\"group.id\" = \"x\"\n", &[], &[]).expect_err("group.id is refused");
    assert!(
        told.contains("aimpoint.toml:2:14: kafka.consumer.group.id: \"group.id\" carries the guarantees"),
        "{told}"
    );
    assert!(told.contains("set app.name"), "{told}");
}

#[test]
fn members_that_the_brokers_keep_are_not_known_by_their_instance() {
    let kept = "[kafka.consumer]\n\"group.protocol\" = \"consumer\"\n";
    assert!(load(kept, &[], &[]).is_ok());
    let told = load(&format!("[app]\nstatic_membership = true\n{kept}"), &[], &[]).expect_err("both are refused");
    assert!(told.contains("aimpoint.toml:2:21: app.static_membership: with \"group.protocol\""), "{told}");
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let text = "[commit]\ninterval = \"100ms\"\n[engine]\nworkers = 1\n";
    let environment = [("AIMPOINT__COMMIT__INTERVAL", "50ms"), ("AIMPOINT__ENGINE__WORKERS", "3"), ("PATH", "/bin")];
    let config = load(text, &environment, &["commit.interval=10ms", "kafka.brokers=a:1,b:2"]).unwrap();
    assert_eq!(config.commit.interval.as_millis(), 10);
    assert_eq!((config.engine.workers, config.kafka.brokers.as_str()), (3, "a:1,b:2"));

    let told = load(text, &[("AIMPOINT__COMMIT__INTERVAL", "soon")], &["engine.workers=many", "nonsense"]).unwrap_err();
    assert!(told.contains("AIMPOINT__COMMIT__INTERVAL: commit.interval: "), "{told}");
    assert!(told.contains("--set engine.workers: engine.workers: "), "{told}");
    assert!(told.contains("--set takes key=value"), "{told}");
}

#[test]
fn settings_of_the_client_come_from_the_environment_and_secrets_are_not_shown() {
    let environment =
        [("AIMPOINT__KAFKA__CLIENT__SASL_PASSWORD", "hush"), ("AIMPOINT__KAFKA__CONSUMER__FETCH_MIN_BYTES", "7")];
    let config = load("[kafka.client]\n\"security.protocol\" = \"SASL_PLAINTEXT\"\n", &environment, &[]).unwrap();
    let settings = config.kafka.consumer_settings();
    for (name, value) in [("sasl.password", "hush"), ("fetch.min.bytes", "7"), ("security.protocol", "SASL_PLAINTEXT")]
    {
        assert!(settings.contains(&(name.to_owned(), value.to_owned())), "{name} in {settings:?}");
    }
    let shown = format!("{:?}", config.kafka.without_secrets());
    assert!(shown.contains("***") && !shown.contains("hush"), "{shown}");
}

#[test]
fn a_fault_inside_a_rule_points_into_the_rule() {
    let text = "[[segment]]\nid = \"a\"\nwhere = '''\nvalue > 1.0\n  && scor > 0.5'''\n".to_owned();
    let document = Document::parse("aimpoint.toml", text).unwrap();
    let mut fault = Fault::new("segment[0].where", "nothing here is named \"scor\"");
    fault.at = Some((2, 6));
    let told = document.explain(&[fault]);
    assert!(told.starts_with("aimpoint.toml:5:6: segment[0].where: "), "{told}");
    assert!(told.contains("    5 |   && scor > 0.5'''\n      |      ^\n"), "{told}");
}

#[test]
fn what_is_not_toml_is_told_with_its_place() {
    let told = load("[kafka\nbrokers = \"a\"\n[app]\nname = = 3\n", &[], &[]).unwrap_err();
    assert!(told.contains("aimpoint.toml:1:") && told.contains("aimpoint.toml:4:"), "{told}");
}

#[test]
fn a_shadow_needs_a_name_of_its_own_and_a_model_to_be_compared_with() {
    let faults = |text: &str| {
        let document = Document::parse("aimpoint.toml", text.to_owned()).unwrap();
        let mut faults = Vec::new();
        let config = Config::read(&document, None, &mut faults);
        (config, faults.into_iter().map(|fault| format!("{}: {}", fault.key, fault.message)).collect::<Vec<_>>())
    };
    let model = "[model]\npath = \"m.onnx\"\n";
    let shadow = |more: &str| format!("[[shadow]]\npath = \"s.onnx\"\n{more}\n");
    let (config, found) = faults(&format!("{model}{}", shadow("name = \"b\"")));
    assert_eq!((found, config.shadows.len()), (Vec::new(), 1));
    let (_, found) = faults(&shadow("name = \"b\""));
    assert!(found.len() == 1 && found[0].contains("the model that decides, and there is none"), "{found:?}");
    let (_, found) = faults(&format!("{model}{}{}{}", shadow("name = \"b\""), shadow(""), shadow("name = \"b\"")));
    assert!(found.len() == 2, "{found:?}");
    assert!(found[0].starts_with("shadow[1]: a shadow needs a name"), "{found:?}");
    let (_, told) = faults(&format!("[topics]\nshadow_scores = \"s\"\n{model}"));
    assert!(told.len() == 1 && told[0].starts_with("topics.shadow_scores: no shadow is declared"), "{told:?}");
    assert!(found[1].starts_with("shadow[2].name: \"b\" is the name of another shadow"), "{found:?}");
}

#[test]
fn variants_and_the_experiment_s_shares_go_together_with_the_model() {
    let model = "[model]\npath = \"m.onnx\"\nheads = { bought = \"p\" }\n";
    let variant = |more: &str| format!("[[variant]]\npath = \"v.onnx\"\n{more}\n");
    let named = variant("name = \"b\"\nheads = { bought = \"q\" }");
    let experiment = "[experiment]\nname = \"spring\"\nshares = { b = 0.1 }\n";
    let config = load(&format!("{model}{named}{experiment}"), &[], &["experiment.shares.b=0.25"]).unwrap();
    assert_eq!((config.variants.len(), config.pipeline.experiment.shares["b"]), (1, 0.25), "a flag moves the share");
    assert!(config.variants[0].path.is_absolute(), "it is beside the configuration");
    for (text, part) in [
        (format!("{named}{experiment}"), "variant[0]: a variant decides for a share of the users, and no model"),
        (format!("{model}{named}"), "experiment.name: variants need the name of their experiment"),
        (format!("{model}{experiment}"), "aimpoint.toml:6:16: experiment.shares.b: no variant is named \"b\""),
        (
            format!("{model}{}{experiment}", variant("name = \"b\"")),
            "variant[0].heads: expected the heads of [model], [\"bought\"], found []",
        ),
        (
            format!("{model}{named}{}", experiment.replace("0.1", "0.00001")),
            "experiment.shares.b: 0.00001 is not between",
        ),
        (format!("{model}batch = {{ max_rows = 3 }}\n"), "aimpoint.toml:4:22: model.batch.max_rows: 3 is not between"),
        (
            format!("{model}{named}batch = {{ max_delay = \"1s\" }}\n{experiment}"),
            "variant[0].batch.max_delay: 1s is more than",
        ),
    ] {
        let told = load(&text, &[], &[]).unwrap_err();
        assert!(told.contains(part), "{part:?} is missing in:\n{told}");
    }
}
