//! The declared paths, parsed and as a tree.

/// One part of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Step<'a> {
    pub(super) name: &'a str,
    /// The key of an element in an array of keys and values.
    key: Option<&'a str>,
}

/// The parts of a path; `None` if it is invalid.
pub(in super::super) fn steps(path: &str) -> Option<Vec<Step<'_>>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    let mut rest = Some(path);
    while let Some(text) = rest {
        // Names of Amplitude's own properties start with a bracket, as in "[Amplitude] Page URL".
        let bracket = text.find(['.', '[']).filter(|at| *at > 0 && text.as_bytes()[*at] == b'[');
        let key = bracket.and_then(|open| Some((open, open + text[open..].find(']')?)));
        let (step, after) = match key {
            Some((open, close)) => {
                (Step { name: &text[..open], key: Some(&text[open + 1..close]) }, &text[close + 1..])
            }
            // With a missing bracket, this would be a name that no member has.
            None if bracket.is_some() => return None,
            None => {
                let end = text.find('.').unwrap_or(text.len());
                (Step { name: &text[..end], key: None }, &text[end..])
            }
        };
        rest = match after.strip_prefix('.') {
            None if after.is_empty() => None,
            None => return None,
            more => more,
        };
        let is_whole = !step.name.is_empty() && step.key.is_none_or(|key| !key.is_empty() && rest.is_none());
        if !is_whole {
            return None;
        }
        steps.push(step);
    }
    Some(steps)
}

/// The distance between ranks of paths. The bits below it encode the spelling of the names.
pub(super) const SPELLINGS: u32 = 1 << 16;

/// The declared paths as a tree. Members that are not in it are skipped.
#[derive(Debug, Default)]
pub(super) struct Trie {
    pub(super) members: Members,
    /// The elements of an array of keys and values.
    pub(super) keyed: Members,
    /// The leaves that a value here belongs to, each with the rank of its path.
    pub(super) leaves: Vec<(usize, u32)>,
    /// Whether an array here is taken as a whole, as text.
    pub(super) takes_array: bool,
    /// Whether this is the array of events.
    pub(super) is_unpacked: bool,
}

/// The number of classes of names. There are many more classes than declared names, so most names of a payload fall
/// into an empty class, and nearly all others are declared.
const CLASSES: usize = 256;

/// The class of a name, by its length and three of its bytes, because names of one producer often start alike.
fn class(name: &str) -> usize {
    let bytes = name.as_bytes();
    let byte = |at: usize| usize::from(bytes.get(at).copied().unwrap_or_default());
    let length = bytes.len();
    (length + 7 * byte(0) + 31 * byte(length / 2) + 59 * byte(length.wrapping_sub(1))) % CLASSES
}

/// Names, and the trees below them.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// Sorted by class once [`Members::sort`] has run.
    pub(super) all: Vec<(String, Trie)>,
    /// By class, where its names start in `all`, followed by the end of the last class. Empty without names.
    starts: Vec<u32>,
}

impl Members {
    fn child(&mut self, name: &str) -> &mut Trie {
        let index = match self.all.iter().position(|(member, _)| member == name) {
            Some(index) => index,
            None => {
                self.all.push((name.to_owned(), Trie::default()));
                self.all.len() - 1
            }
        };
        &mut self.all[index].1
    }

    fn sort(&mut self) {
        self.all.sort_by_key(|(name, _)| class(name));
        let classes = if self.all.is_empty() { 0 } else { CLASSES + 1 };
        self.starts =
            (0..classes).map(|number| self.all.partition_point(|(name, _)| class(name) < number) as u32).collect();
        self.all.iter_mut().for_each(|(_, below)| below.sort());
    }

    pub(super) fn find(&self, name: &str) -> Option<&Trie> {
        let class = class(name);
        let [start, end] = *self.starts.get(class..class + 2)? else { return None };
        self.all[start as usize..end as usize].iter().find(|(member, _)| member == name).map(|(_, below)| below)
    }
}

impl Trie {
    pub(super) fn child(&mut self, name: &str) -> &mut Self {
        self.members.child(name)
    }

    /// Adds a path. `bit` is added to the rank for the other spelling of its first name.
    pub(super) fn insert(&mut self, steps: &[Step<'_>], (leaf, takes_array): (usize, bool), rank: u32, bit: u32) {
        let Some((step, rest)) = steps.split_first() else {
            self.leaves.push((leaf, rank));
            self.takes_array |= takes_array;
            return;
        };
        let camel = camel_case(step.name);
        let other = (camel != step.name).then_some((camel.as_str(), rank | bit));
        for (name, rank) in std::iter::once((step.name, rank)).chain(other) {
            let child = self.child(name);
            match step.key {
                Some(key) => child.keyed.child(key).leaves.push((leaf, rank)),
                None => child.insert(rest, (leaf, takes_array), rank, bit >> 1),
            }
        }
    }

    /// Prepares it for lookups.
    pub(super) fn sort(&mut self) {
        self.members.sort();
        self.keyed.sort();
    }

    /// Visits all leaves at and below this node.
    pub(super) fn each_below(&self, visit: &mut dyn FnMut(usize, u32)) {
        for (leaf, rank) in &self.leaves {
            visit(*leaf, *rank);
        }
        for (_, below) in self.members.all.iter().chain(&self.keyed.all) {
            below.each_below(visit);
        }
    }
}

fn camel_case(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    let mut after = false;
    for letter in name.chars() {
        match letter {
            '_' => after = true,
            _ if std::mem::take(&mut after) => camel.extend(letter.to_uppercase()),
            _ => camel.push(letter),
        }
    }
    camel
}
