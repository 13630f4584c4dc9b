//! Detects bots by their user agent.
//!
//! Owns the list of bots and a cache of answers. The list is crawler-user-agents 1.60.0 (MIT; its licence is next to
//! it), one pattern per line, extracted from the `pattern` members of its `crawler-user-agents.json`; update it the
//! same way. It lists crawlers one by one, so it hardly ever mistakes a person for a bot, but misses bots that nobody
//! has reported. That is intended: leaving out a buyer costs more than serving a crawler. Limits: only the first
//! [`AGENT_BYTES_MAX`] bytes of an agent are matched, and [`ANSWERS_MAX`] answers are cached. The answer depends only
//! on the text, never on the cache.

use regex::{Regex, RegexBuilder};
use std::sync::LazyLock;

const PATTERNS: &str = include_str!("bots/crawler-user-agents.txt");

/// The longest known agents have about 400 bytes; matching more would only cost time.
const AGENT_BYTES_MAX: usize = 1024;

/// A site sees a few thousand agents a day, most of them rarely. This many slots take at most 4 MiB.
const ANSWERS_MAX: usize = 4096;

/// The compiled list takes about this much, which exceeds the default limit.
const COMPILED_BYTES_MAX: usize = 64 << 20;

static LIST: LazyLock<Regex> = LazyLock::new(|| {
    let all: Vec<String> = PATTERNS.lines().map(|pattern| format!("(?:{pattern})")).collect();
    RegexBuilder::new(&all.join("|"))
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .build()
        .expect("a test compiles the list")
});

/// A cached answer.
#[derive(Clone, Debug, Default)]
struct Answer {
    agent: String,
    is_bot: bool,
}

/// Classifies user agents and caches the answers.
#[derive(Debug)]
pub(super) struct Bots {
    /// By the hash of the agent; in a shared slot, the newer agent replaces the older.
    answers: Vec<Answer>,
}

impl Default for Bots {
    fn default() -> Self {
        // Compile the list now rather than during the first event.
        LazyLock::force(&LIST);
        Self { answers: vec![Answer::default(); ANSWERS_MAX] }
    }
}

impl Bots {
    /// Whether an agent is a bot's. Allocates only if the agent is longer than all earlier ones in its slot.
    pub(super) fn is_bot(&mut self, agent: &str) -> bool {
        let agent = &agent[..agent.floor_char_boundary(AGENT_BYTES_MAX)];
        let slot = rapidhash::v3::rapidhash_v3(agent.as_bytes()) as usize % ANSWERS_MAX;
        let answer = &mut self.answers[slot];
        if answer.agent != agent {
            agent.clone_into(&mut answer.agent);
            answer.is_bot = LIST.is_match(agent);
        }
        answer.is_bot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crawlers_are_known_and_browsers_are_not_taken_for_them() {
        let mut bots = Bots::default();
        for _ in 0..2 {
            for agent in [
                "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
                "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
                "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
                "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
                "Wget/1.12 (linux-gnu)",
            ] {
                assert!(bots.is_bot(agent), "{agent}");
            }
            for agent in [
                "",
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
                "Mozilla/5.0 (Linux; Android 9; CUBOT_X19) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/88.0 Mobile Safari/537.36",
                "ünknown".repeat(1_000).as_str(),
            ] {
                assert!(!bots.is_bot(agent), "{agent}");
            }
        }
    }

    #[test]
    fn what_shares_a_slot_does_not_share_an_answer() {
        let mut bots = Bots::default();
        for round in 0..2 {
            for number in 0..3 * ANSWERS_MAX {
                let bot = number % 3 == 0;
                let agent = format!("{}/{number}", if bot { "Twitterbot" } else { "Mozilla" });
                assert_eq!(bots.is_bot(&agent), bot, "{agent} in round {round}");
            }
        }
        assert_eq!(bots.answers.len(), ANSWERS_MAX);
    }
}
