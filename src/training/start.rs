//! Where a next training may begin: with the weights of a former one.
//!
//! Guarantees: the weights have seen training rows only, and no row that the next training is watched or tested by. So neither
//! the number of epochs nor the figures of the next model are flattered by what its networks know already. For that, the rows
//! must have times, and whole rows must be split by them: a group that is kept together may reach beyond the split.

use super::{Dataset, Network, Split, TrainSpec};

/// Where a next training may begin.
#[derive(Clone, Debug)]
pub struct Start {
    /// The networks, one for each to be trained.
    pub(super) networks: Vec<Network>,
    hidden: Vec<usize>,
    features: Vec<String>,
    fingerprint: Option<String>,
    /// The latest time of a row that they have learned from; infinite if the rows were not split by time.
    pub(super) until: f64,
}

impl Start {
    /// The networks after their training on the training rows of the split.
    pub(super) fn new(data: &Dataset, spec: &TrainSpec, split: &Split, networks: Vec<Network>) -> Self {
        let times = data.times.as_ref().filter(|_| split.how == "time");
        let latest = |times: &Vec<f64>| split.train.iter().map(|row| times[*row]).fold(f64::NEG_INFINITY, f64::max);
        Self {
            networks,
            hidden: spec.hidden.clone(),
            features: data.features.clone(),
            fingerprint: data.fingerprint.clone(),
            until: times.map_or(f64::INFINITY, latest),
        }
    }

    /// Why a training on these rows cannot begin here.
    pub(super) fn misfit(&self, data: &Dataset, spec: &TrainSpec, split: &Split) -> Option<&'static str> {
        if self.features != data.features || self.fingerprint != data.fingerprint {
            return Some("its features are others");
        }
        if self.hidden != spec.hidden || self.networks.len() != spec.members {
            return Some("its layers or the number of its networks are others");
        }
        // Pruned networks are smaller than those that are trained.
        if self.networks.iter().any(|it| it.hidden() != spec.hidden) {
            return Some("it was pruned");
        }
        let Some(times) = data.times.as_ref().filter(|_| split.how == "time") else {
            return Some("the rows are not split by time, so it may know those that the training is watched by");
        };
        let mut watched = split.validation.iter().chain(&split.test);
        watched
            .any(|row| times[*row] <= self.until)
            .then_some("it knows rows that this training is watched or tested by")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::{train_from, train_with};

    /// Rows from this time on, a second apart. The label is whether the feature is high.
    fn rows(from: usize, count: usize) -> Dataset {
        let value = |at: usize| (at * 7_919 % 101) as f32;
        Dataset {
            features: vec!["a".to_owned()],
            values: (from..from + count).map(value).collect(),
            labels: (from..from + count).map(|at| value(at) > 50.0).collect(),
            times: Some((from..from + count).map(|at| at as f64).collect()),
            fingerprint: Some("f".to_owned()),
            ..Dataset::default()
        }
    }

    fn spec() -> TrainSpec {
        TrainSpec { members: 1, hidden: vec![3], epochs_max: 5, ..TrainSpec::default() }
    }

    #[test]
    fn a_start_knows_training_rows_only() {
        let spec = spec();
        let data = rows(0, 200);
        let trained = train_with(&data, &spec, |_| {}).unwrap();
        assert_eq!(trained.next.until, 139.0);
        // With other validation and test rows, the same training rows give the same start.
        let mut other = data.clone();
        other.labels[140..].iter_mut().enumerate().for_each(|(at, label)| *label = at % 2 == 0);
        let fixed = TrainSpec { epochs_max: 1, ..spec };
        let [one, two] = [&data, &other].map(|data| train_with(data, &fixed, |_| {}).unwrap());
        assert_eq!(one.next.networks, two.next.networks);
        assert_ne!(one.network, two.network, "the model itself knows the validation rows");
    }

    #[test]
    fn a_start_that_does_not_fit_is_not_used_and_that_is_said() {
        let spec = spec();
        let start = train_with(&rows(0, 200), &spec, |_| {}).unwrap().next;
        let begun = |data: &Dataset, spec: &TrainSpec| {
            let trained = train_from(data, spec, Some(&start), |_| {}).unwrap();
            let afresh = train_with(data, spec, |_| {}).unwrap();
            let why = trained.notes.iter().map(ToString::to_string).find(|note| note.contains("random weights"));
            assert_eq!(why.is_some(), trained.network == afresh.network, "{why:?}");
            why.unwrap_or_default()
        };
        assert_eq!(begun(&rows(20, 200), &spec), "");
        let renamed = Dataset { features: vec!["b".to_owned()], ..rows(20, 200) };
        assert!(begun(&renamed, &spec).contains("its features are others"));
        let declared_anew = Dataset { fingerprint: Some("g".to_owned()), ..rows(20, 200) };
        assert!(begun(&declared_anew, &spec).contains("its features are others"));
        assert!(begun(&rows(20, 200), &TrainSpec { hidden: vec![4], ..spec.clone() }).contains("its layers"));
        // The window reaches further back, so its validation rows are ones that the start knows.
        assert!(begun(&rows(0, 150), &spec).contains("watched or tested"));
        let timeless = Dataset { times: None, ..rows(20, 200) };
        assert!(begun(&timeless, &spec).contains("not split by time"));
    }

    #[test]
    fn until_grows_with_each_training() {
        let spec = spec();
        let first = train_with(&rows(0, 200), &spec, |_| {}).unwrap().next;
        let second = train_from(&rows(20, 200), &spec, Some(&first), |_| {}).unwrap().next;
        assert_eq!((first.until, second.until), (139.0, 159.0));
    }
}
