//! The group: who is a member, of which generation, and whose a partition is.
//!
//! Each member's client is modelled beside it: the generation that it knows of, the partitions that it holds, and the
//! changes that wait for the worker's answer. Eager: all give up all, then all get theirs. Cooperative: who has to give
//! something up is asked for that alone, and it is given on when it is free.

use crate::source::Change;
use rand::{Rng, rngs::SmallRng};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What a commit says of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    pub(super) member: u64,
    generation: u64,
}

/// A member, as the group and as its own client see it.
#[derive(Debug, Default)]
struct Member {
    /// Whether the group has it.
    is_in: bool,
    /// Since when it has not answered.
    cut_off: Option<u64>,
    /// The generation that its client knows of.
    generation: u64,
    /// What its client holds: what was assigned and not released yet.
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
    /// Whose each partition is to be.
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

    /// Puts out who has not answered for `session` steps.
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

    /// Puts a member out that has slept past its session.
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

    /// Chooses anew whose each partition is to be, and begins a rebalance.
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

    /// Ends the rebalance once everybody has joined it.
    fn advance(&mut self) {
        let is_waiting = |member: &Member| {
            member.is_in && (member.cut_off.is_some() || (!self.is_cooperative && !member.owned.is_empty()))
        };
        if !self.is_rebalancing || self.members.values().any(is_waiting) {
            return;
        }
        self.is_rebalancing = false;
        self.generation += 1;
        // Who was put out holds on to its partitions for as long as it does not know; the group gives them on.
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

    /// What waits for a member's answer.
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

    /// Whether the group has put a member out that still holds partitions.
    pub(super) fn is_put_out(&self, number: u64) -> bool {
        self.members.get(&number).is_some_and(|it| !it.is_in && !it.owned.is_empty())
    }

    /// Whether a change waits.
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

    /// A member gives partitions up.
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
            // Cooperative: what is free now is given on in a rebalance of its own.
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
