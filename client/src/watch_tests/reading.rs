//! What is asked for, how far it was read, and what it takes meanwhile.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_list_is_what_the_servers_cache_has_in_one_page() {
    let server = Server::new(|asked| if asked.watch { Reply::Watch(vec![]) } else { Reply::List(vec![]) });
    let (_task, mut messages) = follow_node(&server);
    messages.recv().await.unwrap();
    let query = &server.asked()[0].query;
    assert!(query.contains("resourceVersion=0") && !query.contains("limit="), "{query}");
}

#[tokio::test(start_paused = true)]
async fn watches_that_began_together_do_not_begin_anew_together() {
    let server = Server::new(|asked| if asked.watch { Reply::Watch(vec![]) } else { Reply::List(vec![]) });
    let (_tasks, _messages) = follow_all(&server);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let lasts = |asked: &Asked| {
        asked.query.split('&').find_map(|pair| pair.strip_prefix("timeoutSeconds=")?.parse::<u64>().ok())
    };
    let mut lasting: Vec<_> = server.asked().iter().filter_map(lasts).collect();
    assert!(lasting.iter().all(|seconds| (193..=290).contains(seconds)), "{lasting:?}");
    lasting.dedup();
    assert!(lasting.len() > 1, "{lasting:?}");
}

#[tokio::test(start_paused = true)]
async fn how_far_it_has_read_is_told_with_each_list_object_and_bookmark() {
    let event = |kind: &str, version: &str| {
        json!({"type": kind, "object": {"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "a", "uid": "n2", "resourceVersion": version}}})
    };
    let server = Server::new(move |asked| {
        if asked.watch {
            Reply::Watch(vec![event("MODIFIED", "8"), event("BOOKMARK", "20")])
        } else {
            Reply::List(vec![])
        }
    });
    let (sender, mut messages) = unbounded_channel();
    // A message that no object brings.
    let seen = |version: String| Message::Leases(Delta::Applied(version));
    let watch = Watch { seen: Some(seen), ..watch(&server, NODES, Message::Nodes) };
    let _task = AbortOnDrop::spawn(watch.follow(sender));
    let mut told = Vec::new();
    while told.len() < 5 {
        told.push(messages.recv().await.unwrap());
    }
    let expected = [
        Message::Nodes(Delta::Listed(vec![])),
        seen("7".to_owned()),
        Message::Nodes(Delta::Applied(uid("n2"))),
        seen("8".to_owned()),
        seen("20".to_owned()),
    ];
    assert_eq!(told, expected);
}

/// The most bytes that were allocated at a time while a list of so many objects was read, each with 256 KiB that nobody
/// wants.
fn most_bytes(objects: usize) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let read =
        async {
            let server = Server::new(move |asked| {
                if asked.watch { Reply::Watch(vec![]) } else { Reply::Huge(objects, 256 * 1024) }
            });
            let (_task, mut messages) = follow_node(&server);
            let Message::Nodes(Delta::Listed(listed)) = messages.recv().await.unwrap() else { panic!() };
            assert_eq!(listed.len(), objects);
        };
    allocation_counter::measure(|| runtime.block_on(read)).bytes_max
}

#[test]
fn what_is_not_kept_of_an_object_is_gone_before_the_next_is_read() {
    let (few, many) = (most_bytes(2), most_bytes(250));
    eprintln!("2 objects of 256 KiB: {} KiB, 250 (62 MiB): {} KiB", few / 1024, many / 1024);
    assert!(many < 2 * 1024 * 1024 && many < few + 128 * 1024, "{few} bytes for 2 objects, {many} for 250");
}

#[tokio::test(start_paused = true)]
async fn what_is_too_much_of_a_list_is_dropped_while_it_comes() {
    let server = Server::new(|asked| if asked.watch { Reply::Watch(vec![]) } else { Reply::Huge(5_000, 0) });
    let (sender, mut messages) = unbounded_channel();
    let thin = |kept: &mut Vec<String>| {
        assert!(kept.len() <= 300, "{} at one time", kept.len());
        kept.truncate(40);
    };
    let watch = Watch { thin: Some(thin), ..watch(&server, NODES, Message::Nodes) };
    let _task = AbortOnDrop::spawn(watch.follow(sender));
    let Message::Nodes(Delta::Listed(listed)) = messages.recv().await.unwrap() else { panic!() };
    assert_eq!(listed.len(), 40);
}
