//! The counts kept from win and loss notices.
//!
//! Owns counts by logarithmic bid, campaign and placement. They are all that a fit needs, and they are whole numbers:
//! if two halves of a log are merged in any order, they give the counts of the whole log, as long as all pairs fit.
//!
//! Limits: [`PAIRS_MAX`] histograms of at most 272 buckets. A placement that no longer fits is counted with the unknown
//! ones. A campaign that does not fit is refused. Counts that fade away are forgotten. The caller removes duplicates:
//! it counts a notice once.

use super::super::money::Cpm;
use std::collections::BTreeMap;

/// The maximum number of pairs of campaign and placement, at most 9 kB each: 75 MB.
pub const PAIRS_MAX: usize = 8_192;
/// The count of one notice. Fading keeps fractions of it.
pub(super) const NOTICE: u64 = 1 << 20;
/// The number of buckets per factor of two. They are equally wide in the bid.
const PER_OCTAVE: u32 = 8;
/// The lowest bucket begins at 2¹⁰ millionths, a price of 0.001.
const OCTAVE_MIN: u32 = 10;
/// The highest bucket ends at 2⁴⁴ millionths, a price of 17.6 million.
const OCTAVES: u32 = 34;

/// How an auction ended, as told by a win notice (nurl) or a loss notice (lurl).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice<'a> {
    /// The bidding campaign.
    pub campaign: &'a str,
    /// Where the impression was, if known.
    pub placement: Option<&'a str>,
    /// The bid.
    pub bid: Cpm,
    /// Whether it won.
    pub won: bool,
    /// The price that the winner pays (`${AUCTION_PRICE}`), if known.
    pub price: Option<Cpm>,
    /// The lowest bid that would have won (`${AUCTION_MIN_TO_WIN}`), if known.
    pub min_to_win: Option<Cpm>,
}

/// Why a notice is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The bid is not above 0.
    Bid,
    /// The price is not above 0, or is above the bid.
    Price,
    /// The lowest winning bid is not above 0, is above a bid that won, or is below one that lost: that bid was refused
    /// for a reason other than its price, and teaches nothing about prices.
    MinToWin,
    /// There are [`PAIRS_MAX`] pairs already.
    Full,
}

/// The notices of one bucket, in 2⁻²⁰ of a notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bids that won, if nothing else is known.
    pub won: u64,
    /// Bids that lost, if nothing else is known.
    pub lost: u64,
    /// Auctions in which this was the lowest winning bid.
    pub threshold: u64,
}

impl Counts {
    pub(super) fn total(self) -> u64 {
        self.won.saturating_add(self.lost).saturating_add(self.threshold)
    }

    fn add(&mut self, other: Self) {
        self.won = self.won.saturating_add(other.won);
        self.lost = self.lost.saturating_add(other.lost);
        self.threshold = self.threshold.saturating_add(other.threshold);
    }
}

/// Counts by bid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// The buckets that are not empty.
    pub buckets: BTreeMap<u16, Counts>,
}

impl Histogram {
    pub(super) fn add(&mut self, other: &Self) {
        for (bucket, counts) in &other.buckets {
            self.buckets.entry(*bucket).or_default().add(*counts);
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.buckets.values().fold(0, |sum, counts| sum.saturating_add(counts.total()))
    }

    fn fade(&mut self, keep: u64) {
        let faded = |count: u64| ((u128::from(count) * u128::from(keep)) >> 32) as u64;
        for counts in self.buckets.values_mut() {
            *counts = Counts { won: faded(counts.won), lost: faded(counts.lost), threshold: faded(counts.threshold) };
        }
        // A hundredth of a notice does not matter to a fit. Without this, a bucket would linger for twenty halvings.
        self.buckets.retain(|_, counts| counts.total() > NOTICE / 100);
    }
}

/// The notices of one campaign, by placement. Unknown placements have an empty name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Campaign {
    /// A histogram for each placement.
    pub placements: BTreeMap<String, Histogram>,
}

/// Control's state of the notices of one currency.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notices {
    /// The campaigns that had notices.
    pub campaigns: BTreeMap<String, Campaign>,
}

impl Notices {
    /// Counts a notice.
    ///
    /// The lowest winning bid is taken as exact: every bid from it up wins, every bid below it loses, and the bid
    /// itself adds no information. For a win below its bid, the price is taken as the lowest winning bid. In a
    /// second-price auction that is right. If an exchange lowers prices for other reasons, it is too high, and the
    /// shaded bid errs towards winning. The price of a win at its full bid, and the price of another bidder's win,
    /// carry no information.
    ///
    /// # Errors
    ///
    /// Returns a [`Refusal`] if the notice contradicts itself or does not fit. It is then not counted.
    pub fn observe(&mut self, notice: &Notice<'_>) -> Result<(), Refusal> {
        let (bucket, counts) = read(notice)?;
        let histogram = self.histogram(notice.campaign, notice.placement.unwrap_or("")).ok_or(Refusal::Full)?;
        histogram.buckets.entry(bucket).or_default().add(counts);
        Ok(())
    }

    /// Fades all counts to this share of their value, so that old notices are forgotten: 0.9 a day halves them in a
    /// week. A share that is NaN or above 1 counts as 1, a negative one as 0.
    pub fn fade(&mut self, keep: f64) {
        let keep = if keep.is_nan() { 1.0 } else { keep.clamp(0.0, 1.0) };
        let keep = (keep * 2.0_f64.powi(32)) as u64;
        for campaign in self.campaigns.values_mut() {
            campaign.placements.values_mut().for_each(|histogram| histogram.fade(keep));
            campaign.placements.retain(|_, histogram| histogram.total() >= NOTICE);
        }
        self.campaigns.retain(|_, campaign| !campaign.placements.is_empty());
    }

    /// Adds the counts of another part of the log. Returns how many of its histograms did not fit.
    pub fn merge(&mut self, other: &Self) -> usize {
        let mut refused = 0;
        for (campaign, theirs) in &other.campaigns {
            for (placement, histogram) in &theirs.placements {
                match self.histogram(campaign, placement) {
                    Some(ours) => ours.add(histogram),
                    None => refused += 1,
                }
            }
        }
        refused
    }

    /// The number of pairs of campaign and placement.
    pub fn pairs(&self) -> usize {
        self.campaigns.values().map(|campaign| campaign.placements.len()).sum()
    }

    /// The histogram of a placement. If there is no room for it, that of the unknown placements. `None` if there is no
    /// room for those either.
    fn histogram(&mut self, campaign: &str, placement: &str) -> Option<&mut Histogram> {
        let known =
            |placement: &str| self.campaigns.get(campaign).is_some_and(|it| it.placements.contains_key(placement));
        let placement = if known(placement) || self.pairs() < PAIRS_MAX {
            placement
        } else if known("") {
            ""
        } else {
            return None;
        };
        if !self.campaigns.contains_key(campaign) {
            self.campaigns.insert(campaign.to_owned(), Campaign::default());
        }
        let placements = &mut self.campaigns.get_mut(campaign)?.placements;
        if !placements.contains_key(placement) {
            placements.insert(placement.to_owned(), Histogram::default());
        }
        placements.get_mut(placement)
    }
}

/// The bucket and the counts of a notice.
fn read(notice: &Notice<'_>) -> Result<(u16, Counts), Refusal> {
    let Notice { bid, won, price, min_to_win, .. } = *notice;
    if bid.0 <= 0 {
        return Err(Refusal::Bid);
    }
    // The price of a loss is what someone else pays.
    let price = price.filter(|_| won);
    if price.is_some_and(|price| price.0 <= 0 || price > bid) {
        return Err(Refusal::Price);
    }
    if min_to_win.is_some_and(|least| least.0 <= 0 || (if won { least > bid } else { least < bid })) {
        return Err(Refusal::MinToWin);
    }
    let nothing = Counts::default();
    Ok(match min_to_win.or(price.filter(|price| *price < bid)) {
        Some(least) => (bucket(least), Counts { threshold: NOTICE, ..nothing }),
        None if won => (bucket(bid), Counts { won: NOTICE, ..nothing }),
        None => (bucket(bid), Counts { lost: NOTICE, ..nothing }),
    })
}

/// The bucket of a positive bid, computed in whole numbers so that it is the same on every machine.
fn bucket(bid: Cpm) -> u16 {
    let bid = bid.0.clamp(1 << OCTAVE_MIN, (1 << (OCTAVE_MIN + OCTAVES)) - 1);
    let octave = bid.ilog2();
    let eighth = (bid >> (octave - PER_OCTAVE.ilog2())) as u32 % PER_OCTAVE;
    ((octave - OCTAVE_MIN) * PER_OCTAVE + eighth) as u16
}

/// The lower edge of a bucket.
pub(super) fn edge(bucket: u16) -> Cpm {
    let (octave, eighth) = (u32::from(bucket) / PER_OCTAVE + OCTAVE_MIN, u32::from(bucket) % PER_OCTAVE);
    Cpm(i64::from(PER_OCTAVE + eighth) << (octave - PER_OCTAVE.ilog2()))
}

/// The logarithm of the middle of a bucket.
pub(super) fn log_middle(bucket: u16) -> f64 {
    f64::midpoint((edge(bucket).0 as f64).ln(), (edge(bucket + 1).0 as f64).ln())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bid_lies_between_the_edges_of_its_bucket() {
        let mut bid = 1_024;
        while bid < 1 << 44 {
            let at = bucket(Cpm(bid));
            assert!(edge(at).0 <= bid && bid < edge(at + 1).0, "{bid} {at}");
            bid += 1 + bid / 97;
        }
        assert_eq!((bucket(Cpm(1)), bucket(Cpm(1_023)), bucket(Cpm(1_024))), (0, 0, 0));
        assert_eq!((bucket(Cpm(1 << 43)), bucket(Cpm::MAX)), (264, 271));
    }

    #[test]
    fn a_notice_counts_where_it_tells_most() {
        let notice = |won, price, min_to_win| {
            let (campaign, placement) = ("a", None);
            let (price, min_to_win) = (Some(price).filter(|it| *it != 0).map(Cpm), min_to_win);
            let min_to_win = Some(min_to_win).filter(|it| *it != 0).map(Cpm);
            read(&Notice { campaign, placement, bid: Cpm(5_000), won, price, min_to_win }).map(|(bucket, counts)| {
                (edge(bucket).0, counts.won / NOTICE, counts.lost / NOTICE, counts.threshold / NOTICE)
            })
        };
        // Nearby edges: 3 072, 3 584, 4 096, 4 608, 5 120, 5 632, 6 144.
        for (won, price, min_to_win, expected) in [
            (true, 0, 0, Ok((4_608, 1, 0, 0))),
            (false, 0, 0, Ok((4_608, 0, 1, 0))),
            (true, 5_000, 0, Ok((4_608, 1, 0, 0))),
            (true, 4_200, 0, Ok((4_096, 0, 0, 1))),
            (true, 5_000, 3_100, Ok((3_072, 0, 0, 1))),
            (false, 0, 6_000, Ok((5_632, 0, 0, 1))),
            (false, 7_000, 0, Ok((4_608, 0, 1, 0))),
            (false, 0, 5_000, Ok((4_608, 0, 0, 1))),
            (true, 5_001, 0, Err(Refusal::Price)),
            (true, -1, 0, Err(Refusal::Price)),
            (true, 0, 5_001, Err(Refusal::MinToWin)),
            (false, 0, 4_999, Err(Refusal::MinToWin)),
            (false, 0, -1, Err(Refusal::MinToWin)),
        ] {
            assert_eq!(notice(won, price, min_to_win), expected, "{won} {price} {min_to_win}");
        }
    }

    #[test]
    fn notices_fade_and_those_of_old_placements_are_forgotten() {
        let mut notices = Notices::default();
        let mut notice =
            Notice { campaign: "a", placement: Some("top"), bid: Cpm(9_000), won: true, price: None, min_to_win: None };
        for _ in 0..8 {
            notices.observe(&notice).unwrap();
        }
        notice.placement = None;
        notices.observe(&notice).unwrap();
        for share in [f64::NAN, 1.0, 7.0] {
            let before = notices.clone();
            notices.fade(share);
            assert_eq!(notices, before, "{share}");
        }
        notices.fade(0.5);
        assert_eq!(notices.pairs(), 1, "half a notice is none");
        assert_eq!(notices.campaigns["a"].placements["top"].total(), 4 * NOTICE);
        notices.fade(-1.0);
        assert_eq!(notices, Notices::default());
    }

    #[test]
    fn there_are_never_more_pairs_than_fit() {
        let mut notices = Notices::default();
        for number in 0..2 * PAIRS_MAX {
            let placement = number.checked_sub(1).map(|number| number.to_string());
            let placement = placement.as_deref();
            let notice = Notice { campaign: "a", placement, bid: Cpm(9_000), won: true, price: None, min_to_win: None };
            assert_eq!(notices.observe(&notice), Ok(()));
        }
        assert_eq!(notices.pairs(), PAIRS_MAX);
        assert_eq!(notices.campaigns["a"].placements[""].total() / NOTICE, PAIRS_MAX as u64 + 1);
        let other =
            Notice { campaign: "b", placement: None, bid: Cpm(9_000), won: true, price: None, min_to_win: None };
        assert_eq!(notices.observe(&other), Err(Refusal::Full));
        let mut more = Notices::default();
        more.observe(&other).unwrap();
        assert_eq!((notices.merge(&more), notices.pairs()), (1, PAIRS_MAX));
    }
}
