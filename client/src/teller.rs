//! Logs each trouble with the API server once, and its end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::patience::Trouble;
use crate::resource::Resource;
use crate::watch::Broken;

/// For about a second after its start an API server refuses what it allows later: it has not read the roles yet. Only
/// what is still refused after so long is refused.
const BELIEVED_AFTER: Duration = Duration::from_secs(2);

/// Remembers what it has said.
#[derive(Debug)]
pub struct Teller {
    program: &'static str,
    cases: BTreeMap<Resource, Case>,
}

impl Teller {
    /// `program`: who may or may not do something, in a sentence.
    pub fn new(program: &'static str) -> Self {
        Self { program, cases: BTreeMap::new() }
    }

    /// Says that a list or watch does not work, unless that has been said.
    pub fn broken(&mut self, broken: &Broken, now: Instant) {
        if let Some(text) = self.news(broken, now) {
            tracing::warn!("{text}");
        }
    }

    /// Says that a resource is in step again, when it has been said that it was not.
    pub fn works(&mut self, resource: Resource, now: Instant) {
        if let Some(text) = self.good_news(resource, now) {
            tracing::info!("{text}");
        }
    }

    fn news(&mut self, broken: &Broken, now: Instant) -> Option<String> {
        // Whether it matters shows at the next start.
        if matches!(broken.trouble, Trouble::Cut | Trouble::Gone) {
            return None;
        }
        let case = self.cases.entry(broken.resource).or_insert_with(|| Case::new(now));
        case.is_news(broken.trouble, now).then(|| self.sentence(broken))
    }

    fn good_news(&mut self, resource: Resource, now: Instant) -> Option<String> {
        let case = self.cases.remove(&resource).filter(|case| case.said.is_some())?;
        let seconds = now.saturating_duration_since(case.since).as_secs();
        Some(format!("{}: in step again after {seconds} s", resource.plural()))
    }

    fn sentence(&self, broken: &Broken) -> String {
        let Broken { resource, trouble, reason } = broken;
        let (program, resource) = (self.program, resource.plural());
        match trouble {
            Trouble::NotInstalled => {
                format!("{resource}: the resource definition is not installed; asking for it again")
            }
            Trouble::Forbidden => {
                format!("{resource}: the {program} may not list and watch them; asking again: {reason}")
            }
            Trouble::Unauthorized => format!(
                "{resource}: the API server does not accept the {program}'s token; what is known stays in force"
            ),
            Trouble::Failing | Trouble::Cut | Trouble::Gone => {
                format!("{resource}: {reason}; what is known stays in force")
            }
        }
    }
}

/// Something that does not work, and what of it has been said.
#[derive(Debug)]
pub struct Case {
    since: Instant,
    said: Option<Trouble>,
    /// Nothing but refusals since then.
    refused: Option<Instant>,
}

impl Case {
    /// It has not worked since now.
    pub fn new(now: Instant) -> Self {
        Self { since: now, said: None, refused: None }
    }

    /// Whether to say that it does not work, for this reason. Whoever is told so says it.
    pub fn is_news(&mut self, trouble: Trouble, now: Instant) -> bool {
        if trouble == Trouble::Forbidden {
            let since = *self.refused.get_or_insert(now);
            if now.saturating_duration_since(since) < BELIEVED_AFTER {
                return false;
            }
        } else {
            self.refused = None;
        }
        self.said.replace(trouble) != Some(trouble)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Teller;
    use crate::{Broken, Resource, Trouble};

    const PODS: Resource = Resource::new("", "v1", "pods");

    /// Something to say.
    #[derive(Debug, PartialEq, Eq)]
    enum News {
        Broken(String),
        Works(String),
    }

    /// What is said of pods when these things happen, each with the time in ms.
    fn said(happened: &[(u64, Option<Trouble>)]) -> Vec<(u64, News)> {
        let (mut teller, start) = (Teller::new("agent"), Instant::now());
        let mut note = |at_ms: u64, trouble: Option<Trouble>| {
            let now = start + Duration::from_millis(at_ms);
            let news = match trouble {
                Some(trouble) => {
                    let broken = Broken { resource: PODS, trouble, reason: "so".to_owned() };
                    teller.news(&broken, now).map(News::Broken)
                }
                None => teller.good_news(PODS, now).map(News::Works),
            };
            news.map(|news| (at_ms, news))
        };
        happened.iter().filter_map(|(at_ms, trouble)| note(*at_ms, *trouble)).collect()
    }

    fn works(text: &str) -> News {
        News::Works(text.to_owned())
    }

    #[test]
    fn a_trouble_is_said_once_and_its_end_with_how_long_it_took() {
        let failing = Some(Trouble::Failing);
        let [(0, News::Broken(text)), (7_900, end), (9_000, News::Broken(_))] =
            &said(&[(0, failing), (500, failing), (7_900, None), (8_000, None), (9_000, failing)])[..]
        else {
            panic!()
        };
        assert_eq!(text, "pods: so; what is known stays in force");
        assert_eq!(*end, works("pods: in step again after 7 s"));
    }

    #[test]
    fn a_refusal_is_believed_only_when_it_lasts() {
        let refused = Some(Trouble::Forbidden);
        assert_eq!(said(&[(0, refused), (1_000, refused), (1_500, None)]), []);
        let lasting =
            said(&[(0, refused), (1_000, refused), (3_000, refused), (7_000, refused), (9_000, None)]);
        let [(3_000, News::Broken(text)), (9_000, end)] = &lasting[..] else { panic!("{lasting:?}") };
        assert_eq!(text, "pods: the agent may not list and watch them; asking again: so");
        assert_eq!(*end, works("pods: in step again after 9 s"));
    }

    #[test]
    fn a_refusal_at_the_end_of_an_outage_says_nothing_and_the_outage_still_ends() {
        let (failing, refused) = (Some(Trouble::Failing), Some(Trouble::Forbidden));
        let all = said(&[(0, failing), (30_000, refused), (31_000, refused), (31_500, None)]);
        let [(0, News::Broken(_)), (31_500, end)] = &all[..] else { panic!("{all:?}") };
        assert_eq!(*end, works("pods: in step again after 31 s"));
        // Two starts of the server one after the other are no lasting refusal.
        assert_eq!(said(&[(0, refused), (900, failing), (2_500, refused), (3_000, None)]).len(), 2);
    }
}
