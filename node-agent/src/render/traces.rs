//! The names of the traces that want a line, as members of the object `tcpstates`.

use super::append::{decimal, literal};
use super::escape;
use super::names::first;
use crate::names::TraceName;

/// Bytes that names of traces may take of a line.
const NAMES_MAX: usize = 512;
/// Escaped bytes of one name: namespace, slash, name.
const NAME_MAX: usize = 320;

/// The names that fit on a line, those of the namespace's own traces first: their readers may have nothing else to read.
struct Fitting {
    /// Written out by the caller's function.
    namespaced: Vec<Vec<u8>>,
    cluster: Vec<Vec<u8>>,
    omitted: u32,
}

impl Fitting {
    fn of(names: &[TraceName], write: impl Fn(&mut Vec<u8>, &str)) -> Self {
        let mut fitting = Self { namespaced: Vec::new(), cluster: Vec::new(), omitted: 0 };
        let is_namespaced = |name: &&TraceName| matches!(name, TraceName::Namespaced(_));
        let (first, last): (Vec<_>, Vec<_>) = names.iter().partition(is_namespaced);
        let mut used = 0;
        for name in first.into_iter().chain(last) {
            let mut text = Vec::new();
            write(&mut text, name.as_str());
            let needed = text.len() + 3;
            if used + needed > NAMES_MAX {
                fitting.omitted += 1;
                continue;
            }
            used += needed;
            match name {
                TraceName::Namespaced(_) => fitting.namespaced.push(text),
                TraceName::Cluster(_) => fitting.cluster.push(text),
            }
        }
        fitting
    }
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
        assert!(text.ends_with(r#"],"traces_omitted":60"#), "{text}");
        assert!(text.len() < 600);
    }

    #[test]
    fn namespaced_traces_have_the_room_first_and_a_short_name_fits_behind_a_long_one() {
        let mut names: Vec<_> = (0..9).map(|n| TraceName::Cluster(format!("{n:0>60}"))).collect();
        names.push(TraceName::Cluster("all".to_owned()));
        names.push(TraceName::Namespaced("shop/refused".to_owned()));
        let text = text(&names);
        assert!(text.starts_with(r#""traces":["shop/refused"],"cluster_traces":["#), "{text}");
        assert!(text.ends_with(r#","all"],"traces_omitted":2"#), "{text}");
        let (namespaced, cluster, omitted) = lists(&names);
        assert_eq!((namespaced.len(), cluster.len(), omitted), (1, 8, Some(2)));
    }
}
