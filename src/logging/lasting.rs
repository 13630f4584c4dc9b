//! Faults that last.

/// The fault of a task that tries again and again: it is logged when it begins or changes, not at each attempt.
#[derive(Debug, Default)]
pub struct LastingFault(Option<String>);

impl LastingFault {
    /// Notes that an attempt had this fault. Returns whether the attempt before had another one or none, so that it
    /// should be logged.
    pub fn begins(&mut self, fault: &str) -> bool {
        let is_new = self.0.as_deref() != Some(fault);
        if is_new {
            self.0 = Some(fault.to_owned());
        }
        is_new
    }

    /// Notes that an attempt had no fault. Returns whether the one before had any.
    pub fn ends(&mut self) -> bool {
        self.0.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_new_until_it_repeats_and_again_once_it_was_over() {
        let mut fault = LastingFault::default();
        assert!(!fault.ends());
        assert_eq!(["a", "a", "b", "b", "a"].map(|it| fault.begins(it)), [true, false, true, false, true]);
        assert!(fault.ends() && !fault.ends());
        assert!(fault.begins("a"));
    }
}
