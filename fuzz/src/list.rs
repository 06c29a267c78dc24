//! A list of an API server, which is taken apart while it comes.

use kube_tcpstates_client::{Items, Malformed};
use serde_json::Value;

pub use crate::seed::none as seeds;

/// A list. True: there were objects in it.
pub fn read(bytes: &[u8]) -> bool {
    let whole = taken(bytes, bytes.len().max(1));
    for piece in [1, 7] {
        assert_eq!(taken(bytes, piece), whole, "in pieces of {piece}");
    }
    let Ok((items, around)) = whole else { return false };
    // Of a list as servers write it nothing is lost, and nothing is added.
    if let Ok(Value::Object(list)) = serde_json::from_slice::<Value>(bytes)
        && let Some(Value::Array(objects)) = list.get("items")
        && objects.iter().all(Value::is_object)
        && list.values().filter(|value| value.is_array()).count() == 1
        && bytes.windows(9).filter(|window| window.starts_with(b"\"items\":[")).count() == 1
    {
        let items: Vec<Value> =
            items.iter().map(|item| serde_json::from_slice(item).expect("an object is JSON")).collect();
        assert_eq!(&items, objects);
        let around: Value = serde_json::from_slice(&around).expect("what is around is JSON");
        assert_eq!(around.get("metadata"), list.get("metadata"));
    }
    !items.is_empty()
}

/// The objects, and what is around them.
type Taken = Result<(Vec<Vec<u8>>, Vec<u8>), Malformed>;

fn taken(bytes: &[u8], piece: usize) -> Taken {
    let (mut items, mut found) = (Items::default(), Vec::new());
    for piece in bytes.chunks(piece) {
        items.take(piece, |item| {
            found.push(item.to_vec());
            Ok::<_, Malformed>(())
        })?;
    }
    Ok((found, items.finish()?))
}
