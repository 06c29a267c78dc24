//! The one line on stderr that accounts for every transition.

use std::collections::BTreeMap;

/// Start of that line.
const HEAD: &str = "counts: ";

/// The counters by name. A flag (`exact=true`) counts as 1 or 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts(BTreeMap<String, u64>);

impl Counts {
    /// The last such line of a text.
    pub fn last(stderr: &str) -> Option<Self> {
        stderr.lines().filter_map(Self::parse).next_back()
    }

    /// Reads one line of stderr; log prefixes before `counts:` do not matter.
    pub fn parse(line: &str) -> Option<Self> {
        let (_, pairs) = line.split_once(HEAD)?;
        let pair = |word: &str| {
            let (name, number) = word.split_once('=')?;
            let flag = || number.parse::<bool>().ok().map(u64::from);
            Some((name.to_owned(), number.parse().ok().or_else(flag)?))
        };
        pairs.split_whitespace().map(pair).collect::<Option<_>>().map(Self)
    }

    /// A counter that must be there.
    #[track_caller]
    pub fn get(&self, name: &str) -> u64 {
        *self.0.get(name).unwrap_or_else(|| panic!("the counts have no {name}: {self:?}"))
    }

    /// Sum over all places where transitions are lost.
    #[track_caller]
    pub fn lost(&self) -> u64 {
        self.sum(&[
            "ring_full",
            "recursion",
            "lost_queue",
            "lost_rate",
            "lost_write",
            "lost_identity",
            "lost_restart",
        ])
    }

    fn sum(&self, names: &[&str]) -> u64 {
        names.iter().map(|name| self.get(name)).sum()
    }

    /// Those of the sums of docs/output.md that do not hold: none when nothing is in flight.
    pub fn wrong_sums(&self) -> Vec<String> {
        let equations: [(&[&str], &[&str]); 3] = [
            (&["hit"], &["seen", "recursion"]),
            (&["seen"], &["other_protocol", "filtered", "pending", "ring_full", "emitted"]),
            (
                &["emitted", "told_twice"],
                &[
                    "filtered_user",
                    "summarised",
                    "held",
                    "lost_queue",
                    "lost_rate",
                    "lost_write",
                    "lost_identity",
                    "lost_restart",
                    "written",
                ],
            ),
        ];
        let wrong = equations.into_iter().filter(|(whole, parts)| self.sum(whole) != self.sum(parts));
        wrong
            .map(|(whole, parts)| {
                let [whole, parts] = [whole, parts].map(|names| names.join(" + "));
                format!("{whole} = {parts} does not hold: {self:?}")
            })
            .collect()
    }

    /// All of them hold.
    #[track_caller]
    pub fn assert_add_up(&self) {
        assert_eq!(self.wrong_sums(), [""; 0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "counts: hit=12 seen=11 recursion=1 other_protocol=1 filtered=2 pending=0 ring_full=3 emitted=5 \
        told_twice=0 summarised=0 filtered_user=0 held=0 lost_queue=1 lost_rate=0 lost_write=0 lost_identity=0 lost_restart=0 written=4 exact=true gaps=0";

    #[test]
    fn counts_that_add_up_pass() {
        let counts = Counts::last(&format!("noise\n{LINE}\nmore\n")).expect("a line of counts");
        counts.assert_add_up();
        assert_eq!(counts.lost(), 5);
        assert_eq!(counts.get("exact"), 1);
    }

    #[test]
    #[should_panic(expected = "emitted + told_twice = ")]
    fn a_written_line_too_many_does_not_add_up() {
        Counts::parse(&LINE.replace("written=4", "written=5")).expect("a line of counts").assert_add_up();
    }
}
