//! The names of the traces that want a line, as members of the object `tcpstates`.

use super::append::{decimal, literal};
use super::escape;
use super::names::first;
use crate::names::TraceName;

/// Bytes that names of traces may take of a line.
const NAMES_MAX: usize = 576;
/// So many of these those of cluster traces may have, whatever the others need: the longest such name fits.
const CLUSTER_MAX: usize = 256;
/// Quotes and a comma around a name.
const AROUND: usize = 3;
/// Escaped bytes of one name: namespace, slash, name.
const NAME_MAX: usize = 320;

/// The names that fit on a line. Whoever makes traces in a namespace does not keep the names of cluster traces off the lines
/// of its pods, nor the other way round: each kind has room for its longest name, and what one leaves is the other's.
struct Fitting {
    /// Written out by the caller's function.
    namespaced: Vec<Vec<u8>>,
    cluster: Vec<Vec<u8>>,
    omitted: u32,
}

impl Fitting {
    fn of(names: &[TraceName], write: impl Fn(&mut Vec<u8>, &str)) -> Self {
        let mut fitting = Self { namespaced: Vec::new(), cluster: Vec::new(), omitted: 0 };
        for name in names {
            let mut text = Vec::new();
            write(&mut text, name.as_str());
            match name {
                TraceName::Namespaced(_) => fitting.namespaced.push(text),
                TraceName::Cluster(_) => fitting.cluster.push(text),
            }
        }
        let reserved = length(&fitting.cluster).min(CLUSTER_MAX);
        fitting.omitted = thin(&mut fitting.namespaced, NAMES_MAX - reserved);
        fitting.omitted += thin(&mut fitting.cluster, NAMES_MAX - length(&fitting.namespaced));
        fitting
    }
}

fn length(names: &[Vec<u8>]) -> usize {
    names.iter().map(|name| name.len() + AROUND).sum()
}

/// Leaves those that have room, the first ones first. Returns how many have none.
fn thin(names: &mut Vec<Vec<u8>>, mut room: usize) -> u32 {
    let before = names.len();
    names.retain(|name| {
        let left = room.checked_sub(name.len() + AROUND);
        room = left.unwrap_or(room);
        left.is_some()
    });
    u32::try_from(before - names.len()).unwrap_or(u32::MAX)
}

/// The names as lines that serde writes have them: namespaced ones, those of the cluster, and how many do not fit.
pub(super) fn lists(names: &[TraceName]) -> (Vec<String>, Vec<String>, Option<u32>) {
    let clip =
        |text: &mut Vec<u8>, name: &str| text.extend_from_slice(escape::clip(name, NAME_MAX).as_bytes());
    let Fitting { namespaced, cluster, omitted } = Fitting::of(names, clip);
    let texts = |names: Vec<Vec<u8>>| {
        names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect::<Vec<_>>()
    };
    (texts(namespaced), texts(cluster), Some(omitted).filter(|omitted| *omitted > 0))
}

/// `"traces":[...],"cluster_traces":[...],"traces_omitted":1`, each only if there is any; empty without traces. Those that
/// would make the line too long are counted, not named.
pub(super) fn traces(names: &[TraceName]) -> Vec<u8> {
    let Fitting { namespaced, cluster, omitted } =
        Fitting::of(names, |text, name| escape::json_clipped(text, name, NAME_MAX));
    let mut json = Vec::new();
    for (key, list) in [(first!(traces), &namespaced), (first!(cluster_traces), &cluster)] {
        if !list.is_empty() {
            separate(&mut json);
            json.extend_from_slice(format!("{key}[\"").as_bytes());
            json.extend_from_slice(&list.join(br#"",""#.as_slice()));
            json.extend_from_slice(b"\"]");
        }
    }
    if omitted > 0 {
        separate(&mut json);
        literal(&mut json, first!(traces_omitted));
        decimal(&mut json, omitted);
    }
    json
}

fn separate(json: &mut Vec<u8>) {
    if !json.is_empty() {
        json.push(b',');
    }
}

#[cfg(test)]
mod tests {
    use super::{TraceName, lists, traces};

    fn text(names: &[TraceName]) -> String {
        String::from_utf8(traces(names)).unwrap()
    }

    #[test]
    fn cluster_traces_stand_apart() {
        let [a, b] = ["shop/a", "shop/b"].map(|name| TraceName::Namespaced(name.to_owned()));
        let all = TraceName::Cluster("all".to_owned());
        assert_eq!(text(&[]), "");
        assert_eq!(text(&[a.clone(), b]), r#""traces":["shop/a","shop/b"]"#);
        assert_eq!(text(&[a, all]), r#""traces":["shop/a"],"cluster_traces":["all"]"#);
    }

    #[test]
    fn more_names_than_fit_are_counted() {
        let names: Vec<_> = (0..64).map(|n| TraceName::Namespaced(format!("ns/{n:0>100}"))).collect();
        let text = text(&names);
        assert!(text.ends_with(r#"],"traces_omitted":59"#), "{text}");
        assert!(text.len() < 650);
    }

    #[test]
    fn neither_kind_keeps_the_longest_name_of_the_other_off_a_line() {
        let namespace = "n".repeat(63);
        let long = |kind: fn(String) -> TraceName, length: usize, number: usize| {
            let names = (0..number).map(move |n| format!("{n:0>length$}"));
            names.map(kind).collect::<Vec<_>>()
        };
        let namespaced: fn(String) -> TraceName = |name| TraceName::Namespaced(name);
        let of_namespace = |number| -> Vec<TraceName> {
            (0..number).map(|n| TraceName::Namespaced(format!("{namespace}/{n:0>253}"))).collect()
        };
        for (own, others) in [
            (of_namespace(1), long(TraceName::Cluster, 253, 9)),
            (long(namespaced, 250, 9), long(TraceName::Cluster, 253, 1)),
        ] {
            let (namespaced, cluster, omitted) = lists(&[own.clone(), others.clone()].concat());
            assert!(!namespaced.is_empty() && !cluster.is_empty(), "{namespaced:?} {cluster:?}");
            let shown = namespaced.len() + cluster.len();
            assert_eq!(omitted, Some(u32::try_from(own.len() + others.len() - shown).unwrap()));
            let (first, alone, _) = lists(&own);
            assert!(first.len() >= namespaced.len() && alone.is_empty());
        }
    }

    #[test]
    fn a_short_name_fits_behind_a_long_one() {
        let mut names: Vec<_> = (0..9).map(|n| TraceName::Cluster(format!("{n:0>60}"))).collect();
        names.push(TraceName::Cluster("all".to_owned()));
        names.push(TraceName::Namespaced("shop/refused".to_owned()));
        let text = text(&names);
        assert!(text.starts_with(r#""traces":["shop/refused"],"cluster_traces":["#), "{text}");
        assert!(text.ends_with(r#","all"],"traces_omitted":1"#), "{text}");
        let (namespaced, cluster, omitted) = lists(&names);
        assert_eq!((namespaced.len(), cluster.len(), omitted), (1, 9, Some(1)));
    }
}
