//! Every way in which connections end: what the kernel says of it, beside what looks like it and is another.

use bytemuck::Zeroable as _;
use libc::{
    EADDRNOTAVAIL, ECONNABORTED, ECONNREFUSED, ECONNRESET, EHOSTUNREACH, ENETUNREACH, ENOMEM, EPIPE,
    ETIMEDOUT,
};

use super::*;

/// What the kernel says at an end.
#[derive(Clone, Copy)]
struct Said {
    old: State,
    error: i32,
    mptcp: bool,
    resets_watched: bool,
    figures: Figures,
}

/// An end of a connection that a program holds, whose beginning was seen, and of which nothing else is to be said.
fn at(old: State) -> Said {
    let opened = if old == State::SYN_SENT { 0 } else { known::HANDSHAKE };
    let figures = Figures {
        known: known::SOCKET | known::RECORD | opened,
        all_segments_sent: 1,
        has_descriptor: 1,
        ..Figures::zeroed()
    };
    Said { old, error: 0, mptcp: false, resets_watched: true, figures }
}

/// The same where the socket could not be read.
fn unread_at(old: State) -> Said {
    at(old).with(|figures| *figures = Figures { known: known::RECORD, ..Figures::zeroed() })
}

impl Said {
    fn with(mut self, change: impl FnOnce(&mut Figures)) -> Self {
        change(&mut self.figures);
        self
    }

    fn error(self, error: i32) -> Self {
        Self { error, ..self }
    }

    fn through<const COUNT: usize>(self, states: [State; COUNT]) -> Self {
        self.with(|figures| figures.visited |= states.map(|state| 1 << state.0).iter().sum::<u16>())
    }

    /// The program closes it at this moment, and still holds it.
    fn closes(self) -> Self {
        self.with(|figures| figures.shutdown = SHUT_BOTH)
    }

    /// The program has closed it, and the kernel goes on without it.
    fn let_go(self) -> Self {
        self.closes().with(|figures| figures.has_descriptor = 0).flag(socket_flag::DEAD)
    }

    fn flag(self, flag: u64) -> Self {
        self.with(|figures| figures.socket_flags |= flag)
    }

    /// The peer's FIN, which takes a sequence number.
    fn fin_came(self) -> Self {
        self.flag(socket_flag::DONE)
            .with(|figures| figures.receive_next = figures.receive_next.wrapping_add(1))
    }

    fn reset_came(self) -> Self {
        self.with(|figures| figures.known |= known::RESET_RECEIVED)
    }

    fn lingers(self, seconds: u32) -> Self {
        self.flag(socket_flag::LINGER).with(|figures| figures.linger_time = seconds)
    }

    fn unread(self, bytes: u32) -> Self {
        self.with(|figures| figures.receive_next = figures.receive_next.wrapping_add(bytes))
    }

    /// Sequence numbers: payload, and one for a FIN or a SYN.
    fn outstanding(self, count: u32) -> Self {
        self.with(|figures| figures.write_next = count)
    }

    /// Segments with data that came before and after the program had closed it.
    fn segments(self, before: u32, after: u32) -> Self {
        self.with(|figures| {
            figures.known |= known::SEGMENTS_AT_FIN;
            (figures.segments_at_fin, figures.segments_received) = (before, before + after);
        })
    }

    fn facts(&self) -> Facts<'_> {
        let Self { old, mptcp, resets_watched, ref figures, .. } = *self;
        Facts { figures, resets_watched, mptcp, old, error: number(self.error) }
    }

    fn ending(&self) -> Ending {
        ending(&self.facts())
    }
}

/// As `outcome closed_by cause`.
fn words(ending: Ending) -> String {
    let Ending { outcome, closed_by, cause } = ending;
    let words = [Some(outcome.as_str()), closed_by.map(ClosedBy::as_str), cause.map(EndCause::as_str)];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// What happened, what the kernel said of it, and how it is told.
type Row = (&'static str, Said, &'static str);

fn orderly() -> Vec<Row> {
    let closing = at(State::FIN_WAIT2).let_go().through([State::FIN_WAIT1]);
    let last_ack = at(State::LAST_ACK).let_go().through([State::CLOSE_WAIT]).fin_came();
    let crossed = at(State::CLOSING).let_go().through([State::FIN_WAIT1]).fin_came();
    vec![
        ("the peer's FIN answered ours", closing.fin_came(), "closed local"),
        ("shut down for sending, and still held", at(State::FIN_WAIT2).fin_came(), "closed local"),
        ("the kernel waits for it in a smaller socket", closing, "closed local"),
        ("our FIN answered the peer's", last_ack, "closed peer"),
        ("the FINs crossed", crossed, "closed both"),
        ("data came before it was closed", closing.segments(3, 0), "closed local"),
        ("its last data came with the peer's FIN", closing.segments(3, 1).fin_came(), "closed local"),
        ("more data came", closing.segments(3, 1), "reset_by_us local data_after_close"),
        ("more data came: the kernel says reset", closing.segments(3, 1).error(ECONNRESET).reset_came(), {
            "reset_by_us local data_after_close"
        }),
        ("a reset came", closing.segments(3, 0).error(ECONNRESET).reset_came(), "reset_by_peer peer"),
        (
            "after a shutdown data may come",
            closing.with(|figures| figures.segments_received = 1),
            "closed local",
        ),
        ("our last FIN has no answer", last_ack.outstanding(1), "reset_by_us local memory"),
        ("nor has our FIN that crossed", crossed.outstanding(1), "reset_by_us local memory"),
        ("nor has our first", at(State::FIN_WAIT1).let_go().outstanding(1), "reset_by_us local memory"),
        ("the same, of one that is held", at(State::FIN_WAIT1).closes().outstanding(1), "unknown"),
        ("closed without lingering", at(State::FIN_WAIT1).closes().lingers(0), "reset_by_us local linger"),
    ]
}

fn connects() -> Vec<Row> {
    let syn = at(State::SYN_SENT).outstanding(1);
    let nothing_sent = syn.with(|figures| figures.all_segments_sent = 0);
    let sent_again = syn.with(|figures| figures.retransmits = 1);
    let no_neighbour = nothing_sent.with(|figures| figures.retransmits_in_row = 1);
    let not_watched = Said { resets_watched: false, ..syn };
    let older = syn.with(|figures| figures.known = known::SOCKET);
    vec![
        ("a reset answers", syn.error(ECONNREFUSED).reset_came(), "refused peer"),
        ("an ICMP message says the same", syn.error(ECONNREFUSED), "rejected kernel"),
        ("one of the two", not_watched.error(ECONNREFUSED), "unknown"),
        ("another ICMP message", syn.error(EHOSTUNREACH), "rejected kernel"),
        ("the same where resets are not watched", not_watched.error(ENETUNREACH), "rejected kernel"),
        ("an error, perhaps of an earlier connection", older.error(EHOSTUNREACH), "unknown"),
        ("the program gives up at once", syn, "cancelled local"),
        ("it gives up after the SYN was sent again", sent_again, "unanswered local"),
        ("it gives up, and no neighbour was found", no_neighbour, "unanswered local"),
        ("the kernel gives up", sent_again.error(ETIMEDOUT), "unanswered kernel"),
        ("no port is free", nothing_sent.error(EADDRNOTAVAIL), "no_local_port kernel"),
        ("an ICMP message as if none were", syn.error(EADDRNOTAVAIL), "rejected kernel"),
        ("nothing was sent, and nothing says why", nothing_sent, "unknown"),
        ("killed", syn.error(ECONNABORTED), "reset_by_us local killed"),
        ("unread data of an earlier connection", syn.closes().unread(9), "cancelled local"),
    ]
}

fn resets() -> Vec<Row> {
    let open = at(State::ESTABLISHED);
    let closes = open.closes();
    let half = at(State::CLOSE_WAIT).fin_came();
    let subflow = Said { mptcp: true, ..open };
    let read_to_end = |figures: &mut Figures| figures.copied = 2;
    vec![
        ("a reset comes", open.error(ECONNRESET).reset_came(), "reset_by_peer peer"),
        ("nobody notes it", open.error(ECONNRESET), "reset_by_peer peer"),
        ("it comes after the peer's FIN", half.error(EPIPE), "reset_by_peer peer"),
        ("no program has read the error", open.reset_came(), "reset_by_peer peer"),
        ("killed", open.error(ECONNABORTED), "reset_by_us local killed"),
        ("killed, with data unread", open.unread(9).error(ECONNABORTED), "reset_by_us local killed"),
        ("killed, and would not linger", open.lingers(0).error(ECONNABORTED), "reset_by_us local killed"),
        ("killed after it was closed", at(State::FIN_WAIT1).let_go().outstanding(1).error(ECONNABORTED), {
            "reset_by_us local killed"
        }),
        ("disconnected", open, "reset_by_us local disconnect"),
        ("disconnected with data unread", open.unread(9), "reset_by_us local disconnect"),
        ("a subflow ends without a word", subflow, "unknown"),
        ("closed with data unread", closes.unread(9), "reset_by_us local unread_data"),
        ("the same after the peer's FIN", half.closes().unread(9), "reset_by_us local unread_data"),
        ("shut down for sending before, with data unread", at(State::FIN_WAIT2).closes().unread(9), {
            "reset_by_us local unread_data"
        }),
        ("and nothing of it acknowledged", at(State::FIN_WAIT1).closes().unread(9).outstanding(1), {
            "reset_by_us local unread_data"
        }),
        ("the peer's FIN is no data", half.closes(), "unknown"),
        ("it was read to its end", half.closes().with(read_to_end), "unknown"),
        ("closed with data unread, and would not linger", closes.unread(9).lingers(0), {
            "reset_by_us local unread_data"
        }),
        ("closed, and does not linger", closes.lingers(0), "reset_by_us local linger"),
        ("a subflow too", Said { mptcp: true, ..closes.lingers(0) }, "reset_by_us local linger"),
        ("lingers for a while", closes.lingers(5), "unknown"),
        ("its linger time is not in force", closes, "unknown"),
        ("nobody accepted it", open.with(|figures| figures.has_descriptor = 0), "never_accepted local"),
        ("nor after its FIN", half.with(|figures| figures.has_descriptor = 0), "never_accepted local"),
        ("a subflow without a descriptor", subflow.with(|figures| figures.has_descriptor = 0), "unknown"),
    ]
}

fn timeouts() -> Vec<Row> {
    let open = at(State::ESTABLISHED);
    let again = open.outstanding(100).with(|figures| figures.retransmits_in_row = 3);
    let probed = open.with(|figures| figures.probes = 3);
    let of_user = |figures: &mut Figures| figures.user_timeout = 1_200;
    let orphan = at(State::FIN_WAIT1).let_go();
    vec![
        ("nothing answers what is sent again", again.error(ETIMEDOUT), "timed_out kernel retransmissions"),
        ("an ICMP message had come", again.error(EHOSTUNREACH), "timed_out kernel retransmissions"),
        ("probes of an idle connection", probed.error(ETIMEDOUT), "timed_out kernel keepalive"),
        ("an ICMP message answers them", probed.error(EHOSTUNREACH), "timed_out kernel keepalive"),
        ("probes of a closed window", probed.outstanding(100).error(ETIMEDOUT), {
            "timed_out kernel window_probes"
        }),
        (
            "our FIN alone waits for a window",
            orphan.outstanding(1).with(|figures| figures.probes = 3).error(ETIMEDOUT),
            { "timed_out kernel keepalive" },
        ),
        ("the user's time runs out", again.with(of_user).error(ETIMEDOUT), "timed_out kernel user_timeout"),
        ("the same while it is probed", probed.with(of_user).error(ETIMEDOUT), {
            "timed_out kernel user_timeout"
        }),
        ("nothing says what ran out", open.error(ETIMEDOUT), "timed_out kernel"),
        ("an error, and nothing was tried", open.error(EHOSTUNREACH), "unknown"),
        ("what is sent again, and a reset comes", again.error(ECONNRESET).reset_came(), "reset_by_peer peer"),
        (
            "the kernel has no memory for it",
            orphan.outstanding(1).with(|figures| figures.retransmits_in_row = 3),
            { "reset_by_us local memory" },
        ),
    ]
}

fn by_states() -> Vec<Row> {
    let in_order = unread_at(State::FIN_WAIT2).through([State::FIN_WAIT1]);
    vec![
        ("the last ACK", unread_at(State::LAST_ACK), "closed peer"),
        ("the FINs crossed", unread_at(State::CLOSING).through([State::FIN_WAIT1]), "closed both"),
        ("the second FIN", in_order, "closed local"),
        ("a reset instead", in_order.reset_came(), "reset_by_peer peer"),
        ("an error", in_order.error(ENOMEM), "unknown"),
        ("our FIN has no answer", unread_at(State::FIN_WAIT1), "unknown"),
        ("open", unread_at(State::ESTABLISHED), "unknown"),
        ("a reset of an open one", unread_at(State::ESTABLISHED).reset_came(), "reset_by_peer peer"),
        ("its time is over", unread_at(State::ESTABLISHED).error(ETIMEDOUT), "timed_out kernel"),
        ("that of a connect", unread_at(State::SYN_SENT).error(ETIMEDOUT), "unanswered kernel"),
        ("a reset answers the SYN", unread_at(State::SYN_SENT).reset_came(), "refused peer"),
        ("a connect", unread_at(State::SYN_SENT), "unknown"),
    ]
}

#[track_caller]
fn judge(rows: &[Row]) {
    for (what, said, told) in rows {
        assert_eq!(words(said.ending()), *told, "{what}");
    }
}

#[test]
fn an_orderly_end_is_told_from_one_that_the_kernel_cut_short() {
    judge(&orderly());
}

#[test]
fn a_connect_that_failed_says_no_more_than_is_sure() {
    judge(&connects());
}

#[test]
fn a_reset_is_the_peers_or_ours_and_ours_has_a_cause() {
    judge(&resets());
}

#[test]
fn what_ran_out_is_what_the_kernel_had_tried() {
    judge(&timeouts());
}

#[test]
fn where_the_socket_was_not_read_states_alone_say_what_they_can() {
    judge(&by_states());
}

#[test]
fn no_outcome_and_no_cause_is_without_a_row() {
    let rows = [orderly(), connects(), resets(), timeouts(), by_states()].concat();
    let endings: Vec<_> = rows.iter().map(|(_, said, _)| said.ending()).collect();
    for outcome in Outcome::ALL {
        assert!(endings.iter().any(|ending| ending.outcome == *outcome), "{outcome:?}");
    }
    for cause in EndCause::ALL {
        assert!(endings.iter().any(|ending| ending.cause == Some(*cause)), "{cause:?}");
    }
    for closed_by in ClosedBy::ALL {
        assert!(endings.iter().any(|ending| ending.closed_by == Some(*closed_by)), "{closed_by:?}");
    }
}

#[test]
fn neither_a_fin_nor_an_unanswered_syn_is_a_byte() {
    let unsent = |said: Said| said.facts().unsent();
    assert_eq!(unsent(at(State::SYN_SENT).outstanding(1)), 0);
    assert_eq!(unsent(at(State::ESTABLISHED).outstanding(1)), 1);
    assert_eq!(unsent(at(State::LAST_ACK).outstanding(1)), 0);
    assert_eq!(unsent(at(State::FIN_WAIT1).outstanding(301)), 300);
    let over_the_end = |figures: &mut Figures| (figures.unacknowledged, figures.write_next) = (u32::MAX, 4);
    assert_eq!(unsent(at(State::ESTABLISHED).with(over_the_end)), 5);
    let unread = |said: Said| said.facts().unread();
    assert_eq!(unread(at(State::ESTABLISHED).unread(40)), 40);
    assert_eq!(unread(at(State::CLOSE_WAIT).unread(40).fin_came()), 40);
    assert_eq!(unread(at(State::CLOSE_WAIT).fin_came()), 0);
    assert_eq!(unread(at(State::CLOSE_WAIT).fin_came().with(|figures| figures.copied = 2)), 0);
}

#[test]
fn what_can_still_be_read_is_not_given_up() {
    let given_up = |said: Said| said.facts().is_given_up();
    assert!(!given_up(at(State::ESTABLISHED)));
    assert!(given_up(at(State::ESTABLISHED).closes()));
    assert!(given_up(at(State::CLOSE_WAIT).fin_came().closes()));
    // Shut for sending, and for receiving by the peer's FIN.
    assert!(!given_up(at(State::FIN_WAIT2).fin_came().closes()));
    assert!(given_up(at(State::FIN_WAIT2).fin_came().let_go()));
    assert!(given_up(at(State::ESTABLISHED).with(|figures| figures.has_descriptor = 0)));
}
