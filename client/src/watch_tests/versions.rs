//! Resources that old servers have in another version.

use super::*;

/// Slices, in a new version and an older one.
fn slices(server: &Server) -> Watch<DynamicObject, String, Message> {
    let older = ApiResource {
        group: "discovery.k8s.io".to_owned(),
        version: "v1beta1".to_owned(),
        api_version: "discovery.k8s.io/v1beta1".to_owned(),
        kind: "Kind".to_owned(),
        plural: SLICES.plural().to_owned(),
    };
    let older = Some(Api::all_with(server.client.clone(), &older));
    Watch { older, ..watch(server, SLICES, Message::Leases) }
}

#[tokio::test(start_paused = true)]
async fn a_server_without_the_version_is_asked_for_the_older_one_and_nothing_is_said_of_that() {
    let server = Server::new(|asked| match (asked.version.as_str(), asked.watch) {
        ("v1", _) => Reply::Status(404),
        (_, false) => Reply::List(vec![node("n1")]),
        (_, true) => Reply::Watch(vec![]),
    });
    let (sender, mut messages) = unbounded_channel();
    let _task = AbortOnDrop::spawn(slices(&server).follow(sender));
    assert_eq!(messages.recv().await.unwrap(), Message::Leases(Delta::Listed(vec![uid("n1")])));
    tokio::time::sleep(Duration::from_mins(1)).await;
    let asked: Vec<_> = server.asked().into_iter().map(|asked| (asked.version, asked.watch)).collect();
    let expected = [("v1", false), ("v1beta1", false), ("v1beta1", true)];
    assert_eq!(asked, expected.map(|(version, watch)| (version.to_owned(), watch)));
    assert!(messages.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_has_neither_version_is_said_to_and_asked_ever_more_rarely_until_it_has_one() {
    let server = Server::new(|asked| match (asked.version.as_str(), asked.before) {
        ("v1", 10..) => Reply::List(vec![node("n1")]),
        _ => Reply::Status(404),
    });
    let (sender, mut messages) = unbounded_channel();
    let _task = AbortOnDrop::spawn(slices(&server).follow(sender));
    let first = messages.recv().await.unwrap();
    assert!(
        matches!(first, Message::Broken(Broken { resource: SLICES, trouble: Trouble::NotInstalled, .. })),
        "{first:?}"
    );
    while messages.recv().await.unwrap() != Message::Leases(Delta::Listed(vec![uid("n1")])) {}
    let asked: Vec<_> = server.asked().iter().map(|asked| asked.at).collect();
    assert!(asked[9] - asked[0] > Duration::from_secs(8), "{asked:?}");
}
