//! The names of the traces that want a line, as members of the object `tcpstates`.

use super::append::{decimal, literal};
use super::escape;
use super::names::first;
use crate::names::TraceName;

/// Bytes that names of traces may take of a line.
const NAMES_MAX: usize = 512;
/// Escaped bytes of one name: namespace, slash, name.
const NAME_MAX: usize = 320;

/// The names as lines that serde writes have them: namespaced ones, those of the cluster, and how many do not fit.
pub(super) fn lists(names: &[TraceName]) -> (Vec<String>, Vec<String>, Option<u32>) {
    let (mut namespaced, mut cluster) = (Vec::new(), Vec::new());
    let (mut used, mut omitted) = (0, 0);
    for name in names {
        let text = escape::clip(name.as_str(), NAME_MAX).into_owned();
        used += text.len() + 3;
        if used > NAMES_MAX {
            omitted += 1;
            continue;
        }
        match name {
            TraceName::Namespaced(_) => namespaced.push(text),
            TraceName::Cluster(_) => cluster.push(text),
        }
    }
    (namespaced, cluster, Some(omitted).filter(|omitted| *omitted > 0))
}

/// `"traces":[...],"cluster_traces":[...],"traces_omitted":1`, each only if there is any; empty without traces. Those that
/// would make the line too long are counted, not named.
pub(super) fn traces(names: &[TraceName]) -> Vec<u8> {
    let (mut namespaced, mut cluster) = (Vec::new(), Vec::new());
    let mut omitted = 0_u32;
    for name in names {
        let (list, name) = match name {
            TraceName::Namespaced(name) => (&mut namespaced, name),
            TraceName::Cluster(name) => (&mut cluster, name),
        };
        let mut text = Vec::new();
        escape::json_clipped(&mut text, name, NAME_MAX);
        list.push(text);
    }
    let mut used = 0;
    for list in [&mut cluster, &mut namespaced] {
        list.retain(|text: &Vec<u8>| {
            used += text.len() + 3;
            let fits = used <= NAMES_MAX;
            omitted += u32::from(!fits);
            fits
        });
    }
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
    use super::{TraceName, traces};

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
}
