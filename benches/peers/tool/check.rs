//! Compares a contender's decisions with the expected ones.

use crate::generate::{Generator, number_of};
use serde::{Deserialize, Serialize};

/// How far a score may differ from the expected one, because networks are summed in different orders.
const TOLERANCE: f32 = 1e-4;

#[derive(Deserialize)]
struct Decision<'a> {
    event_id: &'a str,
    user_id: &'a str,
    score: f32,
    segment: &'a str,
    model: &'a str,
    ts: i64,
}

/// The number of decisions, and the errors in them.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Report {
    pub(crate) decisions: u64,
    pub(crate) hot: u64,
    /// Not JSON, a member is missing, or the event does not exist.
    pub(crate) unknown: u64,
    pub(crate) wrong_event: u64,
    pub(crate) wrong_score: u64,
    pub(crate) wrong_segment: u64,
    pub(crate) missing: u64,
    pub(crate) double: u64,
    /// After a decision for a later event of the same user.
    pub(crate) out_of_order: u64,
}

impl Report {
    pub(crate) fn is_clean(&self) -> bool {
        let Self { unknown, wrong_event, wrong_score, wrong_segment, missing, double, out_of_order, .. } = self;
        unknown + wrong_event + wrong_score + wrong_segment + missing + double + out_of_order == 0
    }
}

/// Checks decisions in partition order.
pub(crate) struct Checker<'a> {
    generator: &'a Generator,
    /// Empty if the contender does not score.
    expected: &'a [f32],
    model: &'a str,
    seen: Vec<bool>,
    newest: Vec<Option<u64>>,
    report: Report,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(generator: &'a Generator, count: u64, expected: &'a [f32], model: &'a str) -> Self {
        let (seen, newest) = (vec![false; count as usize], vec![None; generator.users()]);
        Self { generator, expected, model, seen, newest, report: Report::default() }
    }

    pub(crate) fn take(&mut self, payload: &[u8]) {
        let report = &mut self.report;
        report.decisions += 1;
        let decision = sonic_rs::from_slice::<Decision<'_>>(payload).ok();
        let number = decision.as_ref().and_then(|decision| number_of(decision.event_id));
        let (Some(decision), Some(number)) = (decision, number.filter(|it| (*it as usize) < self.seen.len())) else {
            report.unknown += 1;
            return;
        };
        let event = self.generator.event(number);
        let is_right = decision.event_id == event.id() && decision.user_id == event.key() && decision.ts == event.ts;
        report.wrong_event += u64::from(!is_right);
        report.double += u64::from(std::mem::replace(&mut self.seen[number as usize], true));
        let newest = &mut self.newest[event.user as usize];
        report.out_of_order += u64::from(newest.is_some_and(|newest| newest > number));
        *newest = (*newest).max(Some(number));
        let is_hot = decision.score >= 0.5;
        report.hot += u64::from(is_hot);
        if let Some(expected) = self.expected.get(number as usize) {
            // A NaN score is not within the tolerance either.
            let is_near = (decision.score - expected).abs() <= TOLERANCE;
            report.wrong_score += u64::from(!is_near || decision.model != self.model);
            report.wrong_segment += u64::from(decision.segment != if is_hot { "hot" } else { "cold" });
        }
    }

    pub(crate) fn finish(mut self) -> Report {
        self.report.missing = self.seen.iter().filter(|seen| !**seen).count() as u64;
        self.report
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expect::{Model, scores};

    const COUNT: u64 = 500;

    /// The report for correct decisions after spoiling them.
    fn report(spoil: impl Fn(&mut Vec<String>)) -> Report {
        let generator = Generator::new(42, 20, 200);
        let expected = scores(&generator, COUNT, Model::A);
        let mut decisions: Vec<String> = (0..COUNT)
            .map(|number| {
                let (event, score) = (generator.event(number), expected[number as usize]);
                let segment = if score >= 0.5 { "hot" } else { "cold" };
                format!(
                    r#"{{"event_id":"{}","user_id":"{}","score":{score},"segment":"{segment}","model":"A","ts":{}}}"#,
                    event.id(),
                    event.key(),
                    event.ts
                )
            })
            .collect();
        spoil(&mut decisions);
        let mut checker = Checker::new(&generator, COUNT, &expected, "A");
        for decision in &decisions {
            checker.take(decision.as_bytes());
        }
        checker.finish()
    }

    #[test]
    fn right_decisions_are_clean() {
        let report = report(|_| {});
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(report.decisions, COUNT);
    }

    #[test]
    fn every_planted_error_is_found() {
        let swap = |from: &'static str, to: &'static str| {
            move |decisions: &mut Vec<String>| decisions[7] = decisions[7].replacen(from, to, 1)
        };
        assert_eq!(report(|all| all.truncate(499)).missing, 1);
        assert_eq!(report(|all| all.push(all[499].clone())).double, 1);
        assert_eq!(report(|all| all.reverse()).missing, 0);
        assert!(report(|all| all.reverse()).out_of_order > 0);
        assert_eq!(report(swap("\"score\":0.", "\"score\":1.")).wrong_score, 1);
        assert_eq!(report(swap("\"A\"", "\"B\"")).wrong_score, 1);
        assert_eq!(report(swap("\"ts\":1", "\"ts\":2")).wrong_event, 1);
        assert_eq!(report(swap("\"user_id\":\"u", "\"user_id\":\"v")).wrong_event, 1);
        assert_eq!(report(|all| all[7] = all[7].replace("hot", "x").replace("cold", "x")).wrong_segment, 1);
        let torn = report(|all| all[7].truncate(50));
        assert_eq!((torn.unknown, torn.missing), (1, 1));
    }
}
