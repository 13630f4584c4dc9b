//! The page of a model card in a real browser.

use crate::browser::Browser;
use aimpoint::{
    evaluation::{Bin, CurvePoint, Prediction, Summary},
    report::{FeatureShare, ModelReport, model_html},
};
use serde_json::{Value, json};

/// A text that would be markup if it were not escaped, and long enough to break a narrow page.
const EVIL: &str =
    "<img src=x onerror=alert(1)>_of_a_feature_with_a_very_long_name_that_nobody_would_choose_but_somebody_has";

fn summary(shift: f64) -> Summary {
    let row = |at: u32| {
        let probability = f64::from(at % 100) / 100.0;
        Prediction { probability: (probability * shift).clamp(0.01, 0.99), label: (at * 37 % 100) < at % 100 }
    };
    Summary::of(&(0..5_000).map(row).collect::<Vec<_>>())
}

fn card() -> ModelReport {
    let share = |feature: &str, log_loss: f64| FeatureShare {
        feature: feature.to_owned(),
        log_loss,
        deviation: 0.001,
        auc: Some(log_loss / 2.0),
    };
    let curve = |at: u32| {
        let found = f64::from(at) / 20.0;
        CurvePoint {
            threshold: 1.0 - found,
            true_positive_rate: found.sqrt(),
            false_positive_rate: found,
            precision: 0.4,
        }
    };
    let bin = |at: u32| Bin { count: 500, predicted: f64::from(at) * 0.05, observed: f64::from(at) * 0.045 + 0.01 };
    let loss = |epoch: u32| 0.6 + 0.1 / f64::from(epoch);
    ModelReport {
        name: "propensity".to_owned(),
        version: "20260301T000000Z".to_owned(),
        lead: "Trained on 33,000 rows with 12 features. The newest of them are the test rows.".to_owned(),
        parts: ["train", "validation", "test"].map(|name| (name.to_owned(), summary(1.0))).to_vec(),
        baselines: vec![("base rate".to_owned(), summary(0.8)), ("logistic".to_owned(), summary(0.9))],
        learning: (1..40).map(|epoch| [loss(epoch) - 0.004, loss(epoch), loss(epoch) + 0.006]).collect(),
        best_epoch: 30,
        bins: (1..=10).map(bin).collect(),
        curve: (1..20).map(curve).collect(),
        importance: vec![share("recency", 0.08), share("purchases_30d", 0.02), share(EVIL, -0.000_1)],
        notes: vec![format!("the feature {EVIL} is constant in the training rows")],
        facts: [("hidden", "[64,32]"), ("SHA-256 of the model", "0123456789ab")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
    }
}

#[test]
fn the_model_card_is_complete_wide_narrow_dark_and_printed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.html");
    std::fs::write(&path, model_html(&card())).unwrap();
    let address = format!("file://{}", path.display());
    let mut browser = Browser::start();
    for (width, scheme) in [(1280, "light"), (390, "light"), (1280, "dark"), (390, "dark")] {
        let place = format!("{width} {scheme}");
        browser.open(&address, width, scheme);
        crate::wait_for(&place, || {
            match browser.evaluate("document.readyState === 'complete' && !!document.querySelector('footer')") {
                Value::Bool(true) => Vec::new(),
                other => vec![other.to_string()],
            }
        });
        for (selector, least) in [
            (".tile", 5),
            ("#figures tbody tr", 5),
            ("#learning-card polyline", 3),
            ("#learning-card td", 100),
            ("#reliability-card .dot", 10),
            ("#roc-card polyline", 1),
            ("#importance .track", 3),
            ("#notes .note", 1),
            ("#settings tbody tr", 2),
        ] {
            let found = browser.evaluate(&format!("document.querySelectorAll({selector:?}).length"));
            assert!(found.as_u64() >= Some(least), "{place}: {selector}: {found} of {least}");
        }
        let page = browser.evaluate("document.body.innerText").as_str().unwrap().to_owned();
        assert!(page.contains(EVIL) && !page.contains("NaN"), "{place}: {page}");
        let texts =
            [".card h2", ".shown", ".tile small", ".tile h2", ".note", ".axis", ".ticks", "th", "td", "summary"];
        crate::check_look(&mut browser, &place, &texts);
        crate::picture(&mut browser, &format!("model-{width}-{scheme}"));
    }
    // A plot has a name, a description and a table; nothing runs and nothing is loaded.
    let unnamed = "[...document.querySelectorAll('svg[role=img]')].filter((it) => !it.getAttribute('aria-labelledby').split(' ')\
                   .every((id) => document.getElementById(id)?.textContent.length > 5) || \
                   !it.closest('section').querySelector('table')).length";
    assert_eq!(browser.evaluate(unnamed), 0);
    assert_eq!(browser.evaluate("document.querySelectorAll('img, script, iframe').length"), 0);
    let twice = "(() => { const ids = [...document.querySelectorAll('[id]')].map((it) => it.id); \
                 return ids.length - new Set(ids).size; })()";
    assert_eq!(browser.evaluate(twice), 0);
    browser.call("Emulation.setEmulatedMedia", json!({ "media": "print", "features": [] }));
    assert_eq!(browser.evaluate("getComputedStyle(document.body).backgroundColor"), "rgb(255, 255, 255)");
    crate::picture(&mut browser, "model-print");
    assert_eq!(browser.complaints, Vec::<String>::new());
}
