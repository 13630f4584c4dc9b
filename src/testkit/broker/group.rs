//! The group: its members, its generation, and the owner of each partition.
//!
//! Each member's client is modelled as well: the generation it knows, the partitions it holds, and the changes that
//! await the worker's answer. Eager: all members give up all partitions, then all get theirs. Cooperative: members only
//! give up the partitions that they lose, which are assigned again once they are free.

use crate::source::Change;
use rand::{Rng, rngs::SmallRng};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What a commit says about its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    pub(super) member: u64,
    generation: u64,
}

/// A member, as the group and as its own client see it.
#[derive(Debug, Default)]
struct Member {
    /// Whether it is in the group.
    is_in: bool,
    /// The step since which it has not responded.
    cut_off: Option<u64>,
    /// The generation known to its client.
    generation: u64,
    /// What its client holds: assigned and not yet released.
    owned: BTreeSet<i32>,
    changes: VecDeque<Change>,
    /// What it was asked to give up.
    revoking: BTreeSet<i32>,
}

/// The group.
#[derive(Debug)]
pub(super) struct Group {
    partitions: i32,
    is_cooperative: bool,
    generation: u64,
    is_rebalancing: bool,
    members: BTreeMap<u64, Member>,
    /// The intended owner of each partition.
    target: BTreeMap<i32, u64>,
    joined: u64,
}

impl Group {
    pub(super) fn new(partitions: i32, is_cooperative: bool) -> Self {
        Self {
            partitions,
            is_cooperative,
            generation: 0,
            is_rebalancing: false,
            members: BTreeMap::new(),
            target: BTreeMap::new(),
            joined: 0,
        }
    }

    pub(super) fn join(&mut self) -> u64 {
        self.joined += 1;
        self.members.insert(self.joined, Member { is_in: true, ..Member::default() });
        self.joined
    }

    pub(super) fn cut_off(&mut self, member: u64, step: u64) {
        if let Some(member) = self.members.get_mut(&member) {
            member.cut_off = Some(step);
        }
    }

    pub(super) fn reconnect(&mut self, member: u64) {
        if let Some(member) = self.members.get_mut(&member) {
            member.cut_off = None;
        }
        self.advance();
    }

    pub(super) fn leave(&mut self, member: u64, random: &mut SmallRng) {
        self.members.remove(&member);
        self.shuffle(random);
    }

    /// Removes members that have not responded for `session` steps.
    pub(super) fn expire(&mut self, step: u64, session: u64, random: &mut SmallRng) {
        let mut has_expired = false;
        for member in self.members.values_mut() {
            if member.is_in && member.cut_off.is_some_and(|since| since + session <= step) {
                member.is_in = false;
                has_expired = true;
            }
        }
        if has_expired {
            self.shuffle(random);
        }
    }

    /// Removes a member whose session has expired.
    pub(super) fn put_out(&mut self, number: u64, random: &mut SmallRng) {
        if let Some(member) = self.members.get_mut(&number).filter(|it| it.is_in) {
            member.is_in = false;
            self.shuffle(random);
        }
    }

    pub(super) fn is_current(&self, of: Membership) -> bool {
        of.generation == self.generation && self.members.get(&of.member).is_some_and(|member| member.is_in)
    }

    pub(super) fn owns(&self, member: u64, partition: i32) -> bool {
        self.members.get(&member).is_some_and(|member| member.is_in && member.owned.contains(&partition))
    }

    pub(super) fn membership(&self, member: u64) -> Option<Membership> {
        let generation = self.members.get(&member)?.generation;
        Some(Membership { member, generation })
    }

    /// Chooses new owners for all partitions, and starts a rebalance.
    pub(super) fn shuffle(&mut self, random: &mut SmallRng) {
        let members: Vec<u64> = self.members.iter().filter(|(_, it)| it.is_in).map(|(number, _)| *number).collect();
        self.target.clear();
        if !members.is_empty() {
            let first = random.random_range(0..members.len());
            for partition in 0..self.partitions {
                self.target.insert(partition, members[(first + partition as usize) % members.len()]);
            }
        }
        self.rebalance();
    }

    fn rebalance(&mut self) {
        self.is_rebalancing = true;
        if !self.is_cooperative {
            for member in self.members.values_mut().filter(|member| member.is_in) {
                member.ask_for(member.owned.clone());
            }
        }
        self.advance();
    }

    /// Completes the rebalance once all members have joined it.
    fn advance(&mut self) {
        let is_waiting = |member: &Member| {
            member.is_in && (member.cut_off.is_some() || (!self.is_cooperative && !member.owned.is_empty()))
        };
        if !self.is_rebalancing || self.members.values().any(is_waiting) {
            return;
        }
        self.is_rebalancing = false;
        self.generation += 1;
        // A removed member keeps its partitions until it learns of it; the group assigns them to others meanwhile.
        let taken: BTreeSet<i32> =
            self.members.values().filter(|it| it.is_in).flat_map(|it| it.owned.iter().copied()).collect();
        for (number, member) in self.members.iter_mut().filter(|(_, member)| member.is_in) {
            member.generation = self.generation;
            let mine: BTreeSet<i32> =
                self.target.iter().filter(|(_, owner)| *owner == number).map(|(partition, _)| *partition).collect();
            member.ask_for(member.owned.difference(&mine).copied().collect());
            let new: Vec<i32> = mine.difference(&taken).copied().collect();
            if !new.is_empty() {
                member.owned.extend(&new);
                member.changes.push_back(Change::Assigned(new));
            }
        }
    }

    /// The next change that awaits the member's answer.
    pub(super) fn change(&mut self, number: u64) -> Option<Change> {
        let member = self.members.get_mut(&number)?;
        if !member.is_in {
            let lost: BTreeSet<i32> = member.owned.difference(&member.revoking).copied().collect();
            if lost.is_empty() && member.owned.is_empty() && member.changes.is_empty() {
                member.is_in = true;
                self.target.clear();
                self.rejoin();
                return self.members.get_mut(&number)?.changes.pop_front();
            }
            if !lost.is_empty() {
                member.revoking.extend(&lost);
                member.changes.push_back(Change::Lost(lost.into_iter().collect()));
            }
        }
        member.changes.pop_front()
    }

    /// Whether a member that still holds partitions was removed from the group.
    pub(super) fn is_put_out(&self, number: u64) -> bool {
        self.members.get(&number).is_some_and(|it| !it.is_in && !it.owned.is_empty())
    }

    /// Whether a change is pending.
    pub(super) fn is_changing(&self, number: u64) -> bool {
        self.members.get(&number).is_some_and(|it| !it.changes.is_empty() || !it.is_in)
    }

    fn rejoin(&mut self) {
        let members: Vec<u64> = self.members.iter().filter(|(_, it)| it.is_in).map(|(number, _)| *number).collect();
        for partition in 0..self.partitions {
            self.target.insert(partition, members[partition as usize % members.len()]);
        }
        self.rebalance();
    }

    /// Releases partitions of a member.
    pub(super) fn release(&mut self, number: u64, partitions: &[i32]) {
        let Some(member) = self.members.get_mut(&number) else { return };
        for partition in partitions {
            member.owned.remove(partition);
            member.revoking.remove(partition);
        }
        if !member.is_in {
            return;
        }
        if self.is_rebalancing {
            self.advance();
        } else {
            // Cooperative: partitions that became free are assigned in a further rebalance.
            self.rebalance();
        }
    }
}

impl Member {
    fn ask_for(&mut self, partitions: BTreeSet<i32>) {
        let new: Vec<i32> = partitions.difference(&self.revoking).copied().collect();
        if !new.is_empty() {
            self.revoking.extend(&new);
            self.changes.push_back(Change::Revoked(new));
        }
    }
}
