use kube_tcpstates_events::Outcome;

use super::*;
use crate::{connection::fixtures::story, names::WorkloadKind, workloads::OfRole};

fn owner(namespace: &str, workload: &str) -> Numbered<Owner> {
    Numbered::new(Owner {
        namespace: Some(namespace.to_owned()),
        // A pod of many: metrics do not tell it from the others.
        pod_name: Some(format!("{workload}-7d4f")),
        workload: Some(Workload { kind: WorkloadKind::Deployment, name: workload.to_owned() }),
        ..Owner::default()
    })
}

fn name(workload: &str) -> Name {
    Name::of(Some(&owner("shop", workload)))
}

/// The figures of a workload; of the others without one.
fn of<'a>(workloads: &'a Workloads, workload: Option<&str>) -> &'a Figures {
    let name = |name: Option<&Name>| Some(name?.workload.as_ref()?.name.clone());
    let mut all = workloads.all().filter(|(known, _)| name(*known).as_deref() == workload);
    all.next().unwrap_or_else(|| panic!("no {workload:?}")).1
}

#[test]
fn connections_of_all_pods_of_a_workload_add_up_by_side_and_outcome() {
    let mut workloads = Workloads::default();
    for _ in 0..3 {
        workloads.ended(Some(&owner("shop", "web")), Some(Role::Client), &story(Outcome::Closed), 1);
    }
    workloads.ended(Some(&owner("shop", "web")), Some(Role::Client), &story(Outcome::Refused), 1);
    workloads.ended(Some(&owner("shop", "web")), Some(Role::Server), &story(Outcome::Closed), 1);
    workloads.ended(Some(&owner("shop", "db")), None, &story(Outcome::Closed), 1);
    workloads.ended(None, None, &story(Outcome::Closed), 1);
    assert_eq!(workloads.len(), 3);
    let sides: Vec<(&str, &OfRole)> = of(&workloads, Some("web")).roles().collect();
    let [("client", client), ("server", server)] = sides[..] else { panic!("{sides:?}") };
    assert_eq!(client.outcomes().collect::<Vec<_>>(), [(Outcome::Closed, 3), (Outcome::Refused, 1)]);
    assert_eq!((client.sent, client.received, client.retransmits), (300, 6_000, 9));
    assert_eq!((client.syn_retransmits, client.handshakes.count(), client.durations.count()), (4, 3, 4));
    assert_eq!((client.handshakes.within[2], client.durations.within[1]), (3, 4));
    assert_eq!(server.outcomes().collect::<Vec<_>>(), [(Outcome::Closed, 1)]);
    assert_eq!(workloads.passed_over(), 0);
}

#[test]
fn workloads_above_the_bound_are_one_and_counted() {
    let mut workloads = Workloads::default();
    let more = 40;
    for round in 0..2 {
        for number in 0..MAX_WORKLOADS + more {
            let owner = owner("shop", &format!("w{number:03}"));
            workloads.ended(Some(&owner), None, &story(Outcome::Closed), round);
        }
    }
    assert_eq!((workloads.len(), workloads.passed_over()), (MAX_WORKLOADS, 2 * more as u64));
    let count = |figures: &Figures| figures.roles().map(|(_, of)| of.durations.count()).sum::<u64>();
    assert_eq!(count(of(&workloads, Some("w000"))), 2, "those that were there first stay");
    assert_eq!(count(of(&workloads, None)), 2 * more as u64);
    // What is open counts there too, but not as connections that have ended.
    workloads.walked();
    workloads.open(&name("another"), State::ESTABLISHED, 7, 1);
    assert_eq!(of(&workloads, None).states().collect::<Vec<_>>(), [("ESTABLISHED", 7)]);
    assert_eq!(workloads.passed_over(), 2 * more as u64);
}

#[test]
fn what_is_open_is_that_of_the_last_walk_and_drops_add_up() {
    let mut workloads = Workloads::default();
    let web = name("web");
    let listening = |length, limit, dropped| Listening {
        queue: Queue { length: Some(length), limit: Some(limit), ..Queue::default() },
        dropped,
    };
    for (open, dropped) in [(5, 2), (7, 3)] {
        workloads.walked();
        workloads.open(&web, State::ESTABLISHED, open, 1);
        workloads.open(&web, State::CLOSE_WAIT, 1, 1);
        workloads.listens(&web, listening(1, 128, dropped), 1);
        workloads.listens(&web, listening(3, 2, 0), 1);
    }
    let figures = of(&workloads, Some("web"));
    assert_eq!(figures.states().collect::<Vec<_>>(), [("ESTABLISHED", 7), ("CLOSE_WAIT", 1)]);
    let expected = ListenerFigures { listeners: 2, waiting: 4, fullest_permille: 1_500 };
    assert_eq!((figures.listening, figures.drops), (Some(expected), 5));
    workloads.walked();
    let figures = of(&workloads, Some("web"));
    assert_eq!((figures.states().count(), figures.listening, figures.drops), (0, None, 5));
}

#[test]
fn a_workload_is_forgotten_a_while_after_its_last_pod_and_connection() {
    let mut workloads = Workloads::default();
    for name in ["gone", "running", "open"] {
        workloads.ended(Some(&owner("shop", name)), None, &story(Outcome::Closed), 1);
    }
    workloads.open(&name("open"), State::ESTABLISHED, 1, 1);
    let runs = |name: &Name| name.workload.as_ref().is_some_and(|workload| workload.name == "running");
    workloads.forget(runs, KEPT_NS);
    assert_eq!(workloads.len(), 3, "not yet");
    workloads.forget(runs, KEPT_NS + 1);
    let left: Vec<_> = workloads.all().filter_map(|(name, _)| Some(&name?.workload.as_ref()?.name)).collect();
    assert_eq!(left, ["open", "running"]);
    // Its room is another's.
    workloads.walked();
    workloads.forget(|_| false, 3 * KEPT_NS);
    assert!(workloads.is_empty());
}
