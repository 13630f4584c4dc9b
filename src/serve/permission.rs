//! Decides whether the consent signals of a request permit a lookup of its user.

use super::signals::{RequestSignals, SignalFault};
use crate::privacy::consent::{Activity, ConsentGate, Reason, RememberedConsent, Rules};

/// Decides about requests. Each thread has its own.
#[derive(Clone, Debug)]
pub(super) struct Permission(Option<ConsentGate>);

impl Permission {
    /// Without rules, consent is not checked.
    pub(super) fn new(rules: Option<Rules>) -> Self {
        Self(rules.map(ConsentGate::new))
    }

    /// Why a request with these signals is refused at this moment, in microseconds since 1970.
    pub(super) fn refusal(
        &mut self,
        signals: Result<RequestSignals<'_>, SignalFault>,
        now: i64,
    ) -> Option<&'static str> {
        let gate = self.0.as_mut()?;
        match signals {
            Err(fault) => Some(fault.name()),
            Ok(signals) => {
                let verdict = gate.decide(&signals.signals(), &RememberedConsent::default(), now);
                let reason = verdict.basis.reason(Activity::Emit);
                (reason != Reason::Granted).then(|| reason.name())
            }
        }
    }
}
