//! The agent's own limit, shared by namespace: of n namespaces that wrote lately each has an nth for sure, and may take
//! what the others leave.
//!
//! ```text
//!  rate ─┬─► newcomers (a twentieth of a second; for the first second of a namespace)   full: flows on
//!        └─┬─► share of namespace 1 ─┐
//!          ├─► share of namespace 2 ─┼─ what overflows ─► spare (for anyone)
//!          └─► share of namespace n ─┘
//! ```
//!
//! Without the newcomers' part a quiet namespace would find nothing left: its share begins to fill only when it writes,
//! and a noisy one takes everything spare. All parts together hold one second's lines, so that is the greatest burst.

use std::collections::HashMap;

use super::rate::TOKEN;

/// How long a namespace that writes nothing keeps its share, ns.
const LATELY_NS: u64 = 10_000_000_000;
/// How long a namespace is new, ns.
const NEW_NS: u64 = 1_000_000_000;
/// Shares are filled together, and not more often than this, ns.
const STEP_NS: u64 = 1_000_000;
/// Part of the rate, and of the burst, that is kept for newcomers.
const NEWCOMERS_PART: u64 = 20;
/// Namespaces with a share of their own; the others have one together.
const NAMESPACES_MAX: usize = 256;

#[derive(Debug)]
struct Share {
    tokens: u64,
    joined_ns: u64,
    used_ns: u64,
}

/// The buckets. Their unit is [`TOKEN`].
#[derive(Debug)]
pub(super) struct FairShare {
    rate: u64,
    shares: HashMap<Box<str>, Share>,
    newcomers: u64,
    spare: u64,
    filled_ns: Option<u64>,
}

impl FairShare {
    /// Full buckets. The rate, in lines a second, is at least 1.
    pub(super) fn new(rate: u32) -> Self {
        let mut fair = Self {
            rate: rate.max(1).into(),
            shares: HashMap::new(),
            newcomers: 0,
            spare: 0,
            filled_ns: None,
        };
        fair.newcomers = fair.newcomers_max();
        fair.spare = fair.burst().saturating_sub(fair.newcomers);
        fair
    }

    /// Takes a token for a line about a namespace, if there is one for it.
    pub(super) fn take(&mut self, namespace: &str, now_ns: u64) -> bool {
        self.fill(now_ns);
        let Some(share) = share(&mut self.shares, namespace, now_ns) else { return false };
        share.used_ns = share.used_ns.max(now_ns);
        let is_new = now_ns.saturating_sub(share.joined_ns) < NEW_NS;
        let newcomers = if is_new { Some(&mut self.newcomers) } else { None };
        let parts = [&mut share.tokens, &mut self.spare].into_iter().chain(newcomers);
        for tokens in parts {
            if *tokens >= TOKEN {
                *tokens -= TOKEN;
                return true;
            }
        }
        false
    }

    /// One second's lines.
    fn burst(&self) -> u64 {
        self.rate * TOKEN
    }

    /// At least one line: with less, nobody could ever take any.
    fn newcomers_max(&self) -> u64 {
        (self.burst() / NEWCOMERS_PART).max(TOKEN)
    }

    /// At least one line, as for newcomers. Only of a rate of few lines is the burst the greater for it.
    fn share_max(&self) -> u64 {
        let shares = u64::try_from(self.shares.len()).unwrap_or(u64::MAX).max(1);
        (self.burst().saturating_sub(self.newcomers_max()) / shares).max(TOKEN)
    }

    /// Gives out what the time since the last call brought. All of it goes somewhere: to newcomers, to the shares in
    /// equal parts, the rest to whoever comes first, until everything is full.
    fn fill(&mut self, now_ns: u64) {
        let filled_ns = *self.filled_ns.get_or_insert(now_ns);
        let elapsed_ns = now_ns.saturating_sub(filled_ns);
        if elapsed_ns < STEP_NS {
            return;
        }
        self.filled_ns = Some(now_ns);
        let mut left = self.rate.saturating_mul(elapsed_ns);
        let to_newcomers = (left / NEWCOMERS_PART).min(self.newcomers_max() - self.newcomers);
        self.newcomers += to_newcomers;
        left -= to_newcomers;

        // What a share gives back belongs to all.
        let mut given_back = 0_u64;
        self.shares.retain(|_, share| {
            let stays = now_ns.saturating_sub(share.used_ns) < LATELY_NS;
            given_back += if stays { 0 } else { share.tokens };
            stays
        });
        let part = left / u64::try_from(self.shares.len()).unwrap_or(u64::MAX).max(1);
        let share_max = self.share_max();
        let mut held = self.newcomers;
        for share in self.shares.values_mut() {
            left -= part;
            let tokens = share.tokens.saturating_add(part);
            share.tokens = tokens.min(share_max);
            given_back = given_back.saturating_add(tokens - share.tokens);
            held = held.saturating_add(share.tokens);
        }
        let spare = self.spare.saturating_add(given_back).saturating_add(left);
        self.spare = spare.min(self.burst().saturating_sub(held));
    }
}

/// The share of a namespace; it joins with an empty one.
fn share<'s>(
    shares: &'s mut HashMap<Box<str>, Share>,
    namespace: &str,
    now_ns: u64,
) -> Option<&'s mut Share> {
    // A namespace has a name, so the empty one is free for those without a share of their own.
    let is_full = shares.len() >= NAMESPACES_MAX - 1;
    let namespace = if is_full && !shares.contains_key(namespace) { "" } else { namespace };
    // `entry` would make a key for every line.
    if !shares.contains_key(namespace) {
        shares.insert(namespace.into(), Share { tokens: 0, joined_ns: now_ns, used_ns: now_ns });
    }
    shares.get_mut(namespace)
}

#[cfg(test)]
#[path = "fair_tests.rs"]
mod tests;
