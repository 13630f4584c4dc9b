use super::*;
use crate::testkit::FakeModel;
use rand::Rng;

const NAMES: [&str; 16] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"];

fn explainer(features: usize, spec: &ExplainSpec, baseline: &[f32]) -> Explainer {
    let names: Vec<String> = NAMES[..features].iter().map(|&name| name.to_owned()).collect();
    Explainer::new(spec, &names, baseline.to_vec()).expect("the groups are valid")
}

/// Products, a threshold and a sigmoid: every feature interacts with others.
fn tangled(row: &[f32]) -> f32 {
    let z = row[0] * row[1] - row[2] + if row[0] > 0.5 { row[3] } else { 0.0 };
    1.0 / (1.0 + (-z).exp())
}

fn score_of(model: &mut FakeModel, row: &[f32]) -> f64 {
    let mut matrix = FeatureMatrix::new(row.len());
    matrix.reset(1).copy_from_slice(row);
    let mut scores = Vec::new();
    model.score(&matrix, &mut scores).expect("the fake model scores");
    f64::from(scores[0])
}

/// By definition: the mean change over all permutations when a feature joins.
fn by_definition(model: &mut FakeModel, row: &[f32], baseline: &[f32]) -> Vec<f64> {
    fn orders(left: &[usize]) -> Vec<Vec<usize>> {
        if left.is_empty() {
            return vec![Vec::new()];
        }
        let first = |&first: &usize| {
            let rest: Vec<usize> = left.iter().copied().filter(|it| *it != first).collect();
            orders(&rest).into_iter().map(move |rest| [vec![first], rest].concat())
        };
        left.iter().flat_map(first).collect()
    }
    let all: Vec<usize> = (0..row.len()).collect();
    let all = orders(&all);
    let mut parts = vec![0.0; row.len()];
    for order in &all {
        let mut now = baseline.to_vec();
        for feature in order {
            let before = score_of(model, &now);
            now[*feature] = row[*feature];
            parts[*feature] += (score_of(model, &now) - before) / all.len() as f64;
        }
    }
    parts
}

#[test]
fn exact_parts_match_the_definition_and_sum_to_the_score() {
    let mut random = SmallRng::seed_from_u64(1);
    let mut model = FakeModel::new(&NAMES[..5], tangled);
    for _ in 0..20 {
        let mut draw = || -> Vec<f32> { (0..5).map(|_| random.random_range(-2.0..2.0)).collect() };
        let (row, baseline) = (draw(), draw());
        let mut it = explainer(5, &ExplainSpec::default(), &baseline);
        let Explanation { base, parts } = it.explain(&mut model, &row, 0).unwrap();
        let expected = by_definition(&mut model, &row, &baseline);
        for (part, expected) in parts.iter().zip(&expected) {
            assert!((part - expected).abs() < 1e-9, "{parts:?} {expected:?}");
        }
        assert_eq!(parts[4], 0.0, "the model ignores the last one");
        let sum: f64 = base + parts.iter().sum::<f64>();
        assert!((sum - score_of(&mut model, &row)).abs() < 1e-5);
        assert!((base - score_of(&mut model, &baseline)).abs() < 1e-9);
    }
}

#[test]
fn parts_of_a_linear_model_are_weight_times_distance_exact_or_sampled() {
    for features in [3, 12, 13, 16] {
        let weight = |feature: usize| feature as f32 - 4.0;
        let linear =
            move |row: &[f32]| row.iter().enumerate().map(|(at, value)| weight(at) * value).sum::<f32>() / 16.0;
        let mut model = FakeModel::new(&NAMES[..features], linear);
        let row: Vec<f32> = (0..features).map(|at| (at * 7 % 5) as f32 - 1.5).collect();
        let baseline = vec![0.25; features];
        let mut it = explainer(features, &ExplainSpec { samples: 300, ..ExplainSpec::default() }, &baseline);
        assert_eq!(it.is_exact(), features <= EXACT_GROUPS_MAX);
        let control = model.control();
        let explanation = it.explain(&mut model, &row, 5).unwrap();
        assert!(it.is_exact() == (control.runs() == 1), "{} runs", control.runs());
        for (at, part) in explanation.parts.iter().enumerate() {
            let expected = f64::from(weight(at) * (row[at] - 0.25) / 16.0);
            assert!((part - expected).abs() < 1e-5, "{features} {at}: {part} {expected}");
        }
        assert_eq!(it.explain(&mut model, &row, 5).unwrap(), explanation, "the same seed, the same parts");
    }
}

#[test]
fn rows_explained_together_get_the_same_parts_in_fewer_runs() {
    for (features, runs) in [(4, 1), (12, 20), (13, 3)] {
        let mut model = FakeModel::new(&NAMES[..features], tangled);
        let spec = ExplainSpec { samples: 25, ..ExplainSpec::default() };
        let mut it = explainer(features, &spec, &vec![0.1; features]);
        let mut random = SmallRng::seed_from_u64(2);
        let mut draw = || (0..features).map(|_| random.random_range(-2.0..2.0)).collect();
        let rows: Vec<Vec<f32>> = (0..20).map(|_| draw()).collect();
        let seeded: Vec<(&[f32], u64)> = rows.iter().zip(40..).map(|(row, seed)| (row.as_slice(), seed)).collect();
        let control = model.control();
        let together = it.explain_all(&mut model, &seeded).unwrap();
        assert_eq!(control.runs(), runs, "{features} features");
        for ((row, seed), together) in seeded.iter().zip(&together) {
            assert_eq!(Some(&it.explain(&mut model, row, *seed).unwrap()), together.as_ref());
        }
    }
}

#[test]
fn equal_features_get_equal_parts() {
    let mut model = FakeModel::new(&NAMES[..4], |row| (row[1] + row[2]).tanh() * row[0]);
    let mut it = explainer(4, &ExplainSpec::default(), &[0.1, 0.2, 0.2, 0.0]);
    let parts = it.explain(&mut model, &[1.0, 0.7, 0.7, 3.0], 0).unwrap().parts;
    assert!((parts[1] - parts[2]).abs() < 1e-9 && parts[1] > 0.1, "{parts:?}");
    assert_eq!(parts[3], 0.0);
}

#[test]
fn sampled_parts_are_near_the_exact_ones_and_sum_to_the_score() {
    let mut model = FakeModel::new(&NAMES[..14], tangled);
    // The model ignores ten of them, although their values differ from the baseline.
    let (mut row, baseline) = ([1.0; 14], [0.0; 14]);
    row[..4].copy_from_slice(&[0.9, 1.5, 0.4, 0.8]);
    let groups = BTreeMap::from([("rest".to_owned(), NAMES[4..14].iter().map(|&it| it.to_owned()).collect())]);
    let mut exact = explainer(14, &ExplainSpec { groups, ..ExplainSpec::default() }, &baseline);
    let exact = exact.explain(&mut model, &row, 0).unwrap();
    let mut sampled = explainer(14, &ExplainSpec { samples: 500, ..ExplainSpec::default() }, &baseline);
    let sampled = sampled.explain(&mut model, &row, 9).unwrap();
    for feature in 0..4 {
        // The group comes first.
        let (expected, found) = (exact.parts[feature + 1], sampled.parts[feature]);
        assert!((expected - found).abs() < 0.02, "{exact:?} {sampled:?}");
    }
    assert_eq!((exact.parts[0], &sampled.parts[4..]), (0.0, &[0.0; 10][..]));
    let sum = sampled.base + sampled.parts.iter().sum::<f64>();
    assert!((sum - score_of(&mut model, &row)).abs() < 1e-5);
}

/// The largest error of a row's parts relative to its largest part: the mean over some random networks, and the maximum.
fn errors(samples: usize) -> [f64; 2] {
    const FEATURES: usize = 13;
    const CASES: u64 = 20;
    let (mut sum, mut most) = (0.0, 0.0_f64);
    for case in 0..CASES {
        let mut random = SmallRng::seed_from_u64(case);
        let mut draw =
            |count: usize, most: f32| -> Vec<f32> { (0..count).map(|_| random.random_range(-most..most)).collect() };
        let (hidden, out, row, baseline) = (draw(10 * FEATURES, 0.5), draw(10, 0.5), draw(13, 1.7), draw(13, 0.3));
        let network = move |row: &[f32]| {
            let unit = |weights: &[f32]| weights.iter().zip(row).map(|(weight, it)| weight * it).sum::<f32>().max(0.0);
            let z: f32 = hidden.chunks_exact(FEATURES).zip(&out).map(|(weights, out)| out * unit(weights)).sum();
            1.0 / (1.0 + (-z).exp())
        };
        let mut model = FakeModel::new(&NAMES[..FEATURES], network);
        let mut it = explainer(FEATURES, &ExplainSpec { samples, ..ExplainSpec::default() }, &baseline);
        let sampled = it.explain(&mut model, &row, case).expect("the fake model scores").parts;
        it.coalitions.scores.clear();
        it.coalitions.push(&mut model, &baseline).expect("the fake model scores");
        let differing: Vec<usize> = (0..FEATURES).collect();
        let coalitions = it.all(&mut model, &row, &differing).expect("the fake model scores");
        it.coalitions.run(&mut model).expect("the fake model scores");
        let exact = it.parts(&ScoreIndices { differing, coalitions });
        let off = exact.iter().zip(&sampled).map(|(exact, found)| (exact - found).abs()).fold(0.0, f64::max);
        let off = off / exact.iter().copied().map(f64::abs).fold(0.0, f64::max);
        sum += off / CASES as f64;
        most = most.max(off);
    }
    [sum, most]
}

#[test]
fn the_default_number_of_permutations_is_near_the_exact_parts_and_fewer_are_not() {
    let by_default = errors(ExplainSpec::default().samples);
    assert!(by_default[0] < 0.07 && by_default[1] < 0.2, "{by_default:?}");
    let few = errors(4);
    assert!(few[0] > 2.0 * by_default[0], "{few:?} with 4, {by_default:?} by default");
}

#[test]
fn values_equal_to_the_baseline_cost_no_rows_and_get_0() {
    // Exact because of few groups, and exact because few values differ.
    for features in [5, 14] {
        let mut model = FakeModel::new(&NAMES[..features], tangled);
        let control = model.control();
        let mut baseline = vec![0.25; features];
        baseline[4] = f32::NAN;
        let mut row = baseline.clone();
        let mut it = explainer(features, &ExplainSpec::default(), &baseline);
        let nothing = it.explain(&mut model, &row, 0).unwrap();
        assert_eq!((control.rows(), nothing.parts), (1, vec![0.0; features]), "the baseline itself");
        row[..3].copy_from_slice(&[0.9, -1.5, 0.4]);
        let before = control.rows();
        let Explanation { base, parts } = it.explain(&mut model, &row, 0).unwrap();
        assert_eq!(control.rows() - before, 8, "{features} features");
        let expected = by_definition(&mut model, &row[..4], &baseline[..4]);
        for (part, expected) in parts.iter().zip(&expected) {
            assert!((part - expected).abs() < 1e-9, "{parts:?} {expected:?}");
        }
        assert_eq!(parts[3..], vec![0.0; features - 3]);
        assert!((base + parts.iter().sum::<f64>() - score_of(&mut model, &row)).abs() < 1e-5);
    }
}

#[test]
fn permutations_share_their_common_rows_and_no_row_is_run_in_vain() {
    const FEATURES: usize = 16;
    let mut model = FakeModel::new(&NAMES[..FEATURES], tangled);
    let control = model.control();
    let mut it = explainer(FEATURES, &ExplainSpec::default(), &[0.1; FEATURES]);
    assert_eq!(it.explain_all(&mut model, &[]).unwrap(), []);
    assert_eq!(control.runs(), 0);
    let row = [0.7; FEATURES];
    it.explain_all(&mut model, &[(&row, 1), (&row, 2), (&row, 3)]).unwrap();
    // 13 of the 17 steps of each of 64 walks are not shared; the baseline is shared by all three rows.
    let most = 3 * (64 * 13 + 2 * FEATURES as u64 + 1) + 1;
    assert!(control.rows() <= most && control.rows() > 3 * 64 * 13, "{} of {most}", control.rows());
}

#[test]
fn wrong_groups_are_rejected() {
    let names = ["a".to_owned(), "b".to_owned()];
    let spec = |groups: &[(&str, &[&str])]| ExplainSpec {
        groups: groups
            .iter()
            .map(|(name, of)| ((*name).to_owned(), of.iter().map(|&it| it.to_owned()).collect()))
            .collect(),
        ..ExplainSpec::default()
    };
    for (groups, part) in
        [(&[("x", &["c"][..])][..], "no feature \"c\""), (&[("x", &["a"]), ("y", &["a"])], "another group")]
    {
        let (key, message) = Explainer::new(&spec(groups), &names, vec![0.0; 2]).unwrap_err();
        assert!(key.starts_with("explain.groups.") && message.contains(part), "{key} {message}");
    }
}

#[test]
fn a_model_that_fails_or_returns_nan_explains_nothing() {
    let mut model = FakeModel::new(&NAMES[..2], |_| f32::NAN);
    let mut it = explainer(2, &ExplainSpec::default(), &[0.0, 0.0]);
    assert!(it.explain(&mut model, &[1.0, 1.0], 0).is_err());
    // If rows are explained together, only that row is affected.
    let mut model = FakeModel::new(&NAMES[..2], |row| if row[1] > 1.0 { f32::NAN } else { row[0] });
    let told = it.explain_all(&mut model, &[(&[1.0, 0.5], 0), (&[1.0, 2.0], 0), (&[0.5, 0.5], 0)]).unwrap();
    assert_eq!(told.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
}
