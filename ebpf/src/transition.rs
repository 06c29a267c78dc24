//! The program body that every hook shares.

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use kube_tcpstates_common::{
    classify::{Connection, Interest, Wanted, combine, judge_transition, judge_tuple, normalise},
    counter::Counter,
    record::{UNKNOWN_NS, flag, owner},
    rule::{RuleTable, TraceSet},
    state::State,
    verifier::{any_bit_everywhere, forget, highest_bit, select},
};

use crate::{
    counters::Counters,
    emit::{self, Emission, Pending},
    failure, figures,
    globals::{offset, setting},
    hook::{Hook, TCP, Tuple},
    memory::Memory,
    owner as socket_owner,
    place::Place,
    preexisting,
    sight::Sight,
    socket::{
        BIRTH_UNKNOWN, Listeners, PENDING, Records, SINCE_ATTACH, SINCE_UNKNOWN, SocketRecord, TUPLE_JUDGED,
    },
    step::Step,
    tables::MapTables,
};

const LISTEN: u8 = State::LISTEN.0;
/// A record of zeros: no state has this number.
const NEW: u8 = 0;

/// One hit of the hook.
#[inline(always)]
pub(crate) fn on_transition<H: Hook>(hook: &H, counters: Counters) {
    if hook.protocol() != TCP {
        counters.add(Counter::Seen, 1);
        counters.add(Counter::OtherProtocol, 1);
        return;
    }
    let socket = hook.socket();
    let Some(sight) = Sight::of::<H::Memory>(socket) else { return };
    if sight.is_nobodys() {
        leave::<H::Records>(counters, sight.rules, socket, hook.old_state(), hook.new_state());
        return;
    }
    counters.add(Counter::Seen, 1);
    let step = Step::new(hook.old_state(), hook.new_state(), counters);
    // No transition. Its time goes on; only the table of text shows it, as BCC's does.
    if step.stays() && setting!(want_on_cpu) == 0 {
        counters.add(Counter::Filtered, 1);
        forget_ended::<H::Records>(counters, socket, step.old.into(), step.new.into());
        return;
    }
    let tuple = hook.tuple(step);
    if !step.is_listener() && sight.ports_exclude::<H::Memory>(socket, &tuple) {
        if let Some(record) = H::Records::get(socket) {
            pass_over(record, step, counters);
            record.flags &= !TUPLE_JUDGED;
        }
        counters.add(Counter::Filtered, 1);
        forget_ended::<H::Records>(counters, socket, step.old.into(), step.new.into());
        return;
    }
    judged::<H>(hook, counters, &sight, step, tuple);
}

/// A followed socket has ended and its close is missing. What the rules no longer follow is not missing.
#[inline(always)]
pub(crate) fn on_end<H: Hook>(hook: &H, record: &SocketRecord, counters: Counters) {
    let socket = hook.socket();
    let Some(sight) = Sight::of::<H::Memory>(socket) else { return };
    let followed = record.state != NEW
        && record.since_ns >= sight.attached_ns
        && record.generation == sight.generation
        && record.epoch == sight.tables.epoch.get();
    if sight.is_nobodys() || !followed {
        forget_ended::<H::Records>(counters, socket, hook.old_state(), hook.new_state());
        return;
    }
    counters.add(Counter::Seen, 1);
    counters.add(Counter::Gap, 1);
    counters.add(Counter::Inferred, 1);
    let step = Step::new(hook.old_state(), hook.new_state(), counters);
    judged::<H>(hook, counters, &sight, step, hook.tuple(step));
}

/// No trace wants this socket. A record left from earlier rules goes with the socket; only a transition that waits
/// in it must be accounted for, and those wait only where some trace looks, or looked, at ports or addresses.
#[inline(always)]
fn leave<R: Records>(
    counters: Counters,
    rules: &RuleTable,
    socket: *const u8,
    old_state: u32,
    new_state: u32,
) {
    counters.add(Counter::Unwanted, 1);
    if rules.may_hold != 0
        && let Some(record) = R::get(socket)
    {
        drop_pending(record, counters);
    }
    forget_ended::<R>(counters, socket, old_state, new_state);
}

/// A record ends with what it is about. At -> LISTEN that is a connection's: on a listener there must be none, see
/// `docs/security.md`.
#[inline(always)]
fn forget_ended<R: Records>(counters: Counters, socket: *const u8, old_state: u32, new_state: u32) {
    let (listens, closes) = (new_state == LISTEN.into(), new_state == State::CLOSE.0.into());
    if (listens || closes && !R::FREED_WITH_SOCKET) && R::forget(socket) {
        counters.add(Counter::StorageDeleted, 1);
    }
    // A listener that was killed is closed a second time.
    if closes && (old_state == LISTEN.into() || old_state == new_state) {
        Listeners::forget(socket);
    }
}

/// The socket may be wanted by its cgroup and namespace; now the tuple.
#[inline(always)]
fn judged<H: Hook>(hook: &H, counters: Counters, sight: &Sight, step: Step, mut tuple: Tuple) {
    let Sight { rules, ref tables, generation, attached_ns, cgroup_id, identity } = *sight;
    let socket = hook.socket();
    let place = &Place::beside::<H::Memory>(cgroup_id, socket);
    let v4_mapped = normalise(&mut tuple.family, &mut tuple.local, &mut tuple.peer);
    tuple.peer_port &= !step.listener() as u16;
    let mut record = if step.is_listener() { Listeners::get(socket) } else { H::Records::get(socket) };
    let mut is_known = false;
    if let Some(record) = record.as_deref_mut() {
        is_known = record.since_ns >= attached_ns;
        if !is_known {
            outdate(record, step, counters);
        }
    }
    if !is_known
        && !step.is_birth()
        && !step.is_listener()
        && let Some(found) =
            preexisting::take_over::<H::Records>(socket, &tuple, place.netns, step, attached_ns, counters)
    {
        record = Some(found);
    }
    let role = step.role::<H::Memory>(socket, record.as_deref());
    // Under other rules, or when its cgroup was told anew, the socket may have been nobody's for a while.
    let epoch = tables.epoch.get();
    let not_followed = record
        .as_ref()
        .map_or(1, |record| u64::from(record.generation ^ generation) | (record.epoch ^ epoch));
    if let Some(record) = record.as_deref_mut() {
        record.epoch = epoch;
    }
    // At a socket's end it is too late to look.
    let connecting = if H::INFERS { None } else { record.as_deref() };
    let failure = failure::of_connect::<H::Memory>(socket, connecting, step, rules.none);
    // What is there is the port of the connection before.
    tuple.local_port = select(
        failure.no_port,
        record.as_deref().map_or(0, |record| record.birth_port).into(),
        tuple.local_port.into(),
    ) as u16;
    let interest =
        judge(record.as_deref_mut(), rules, tables, generation, &tuple, place, role, identity, step);
    if interest.candidates == 0 {
        if let Some(record) = record {
            pass_over(record, step, counters);
        }
        counters.add(Counter::Filtered, 1);
        forget_ended::<H::Records>(counters, socket, step.old.into(), step.new.into());
        return;
    }
    if record.is_none() && !step.is_close() {
        record = create::<H::Records>(counters, socket, step);
        if let Some(record) = record.as_deref_mut() {
            record.generation = generation;
            record.epoch = epoch;
        }
    }

    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let mut emission = Emission {
        socket,
        place,
        tuple: &tuple,
        step,
        now,
        generation,
        duration_ns: UNKNOWN_NS,
        flags: v4_mapped
            | mptcp::<H::Memory>(socket)
            | step.birth_flag()
            | (u16::from(H::INFERS) * flag::INFERRED),
        error: if H::INFERS { 0 } else { H::Memory::field::<u32>(socket, offset!(error)) },
        cookie: H::Memory::field::<u64>(socket, offset!(cookie)),
        interface: H::Memory::field::<u32>(socket, offset!(bound_interface)),
        role,
    };
    if let Some(record) = record.as_deref_mut() {
        let error = failure.error_of(record, emission.error);
        emission.error = forget(error.into(), rules.none) as u32;
        if step.is_birth() && !step.is_child() {
            failure::remember_left_over::<H::Memory>(record, socket, &emission);
        } else {
            record.birth_error = 0;
        }
        emission.duration_ns = arrive(
            record,
            forget(not_followed, rules.none) == 0,
            role,
            step,
            now,
            counters,
            socket,
            &mut emission.flags,
        );
        if rules.stories != 0 && !H::INFERS {
            figures::keep::<H::Memory>(record, socket, step);
        }
    }
    emission.duration_ns = forget(emission.duration_ns, rules.none);
    emission.flags = forget(emission.flags.into(), rules.none) as u16;
    decide::<H>(record, rules, &interest, &emission, counters);
    forget_ended::<H::Records>(counters, socket, step.old.into(), step.new.into());
}

/// Makes the socket's record, a listener's among the listeners.
#[inline(always)]
fn create<R: Records>(
    counters: Counters,
    socket: *const u8,
    step: Step,
) -> Option<&'static mut SocketRecord> {
    // A count that is chosen, and may be 0, would become an atomic OR, which 5.10 does not have.
    let record = if step.is_listener() { Listeners::create(socket) } else { R::create(socket) };
    if record.is_none() {
        counters.add(Counter::StorageFailed, 1);
    } else if !step.is_listener() {
        counters.add(Counter::StorageCreated, 1);
    }
    record
}

#[inline(always)]
fn mptcp<M: Memory>(socket: *const u8) -> u16 {
    u16::from(M::beyond::<u8>(socket, offset!(is_mptcp)) & 1) * flag::MPTCP
}

/// Makes a record from before the programs were last detached say only what still holds: whose socket it is.
#[inline(always)]
fn outdate(record: &mut SocketRecord, step: Step, counters: Counters) {
    drop_pending(record, counters);
    record.state = step.old;
    record.flags = SINCE_UNKNOWN | BIRTH_UNKNOWN;
}

/// Nobody wants this transition. Its socket is followed on, in case its cgroup comes to be wanted.
#[inline(always)]
fn pass_over(record: &mut SocketRecord, step: Step, counters: Counters) {
    drop_pending(record, counters);
    record.state = step.new;
    record.flags |= SINCE_UNKNOWN;
}

/// A transition that was pending and can no longer be wanted.
#[inline(always)]
fn drop_pending(record: &mut SocketRecord, counters: Counters) {
    if record.flags & PENDING != 0 {
        record.flags &= !PENDING;
        let unshown = 1 - u64::from(record.pending_shown);
        counters.take(Counter::Pending, unshown);
        counters.add(Counter::Filtered, unshown);
    }
}

/// What the connection's properties leave, with the tuple's part taken from the record where it stands.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "all of it is inlined")]
fn judge(
    record: Option<&mut SocketRecord>,
    rules: &RuleTable,
    tables: &MapTables,
    generation: u32,
    tuple: &Tuple,
    place: &Place,
    role: u8,
    identity: (TraceSet, TraceSet),
    step: Step,
) -> Interest {
    let listener = step.listener();
    if !step.is_birth()
        && let Some(record) = record.as_deref()
        && record.flags & TUPLE_JUDGED != 0
        && record.generation == generation
    {
        return combine(identity, (record.tuple, rules.none), listener);
    }
    let connection = Connection {
        cgroup_id: place.cgroup_id,
        netns: place.netns,
        family: tuple.family,
        role,
        local_port: tuple.local_port,
        peer_port: tuple.peer_port,
        peer: tuple.peer,
        listener,
    };
    let judged = judge_tuple(tables, rules, &connection);
    if let Some(record) = record {
        record.tuple = judged.0;
        record.generation = generation;
        let whole = highest_bit(!(any_bit_everywhere(judged.1) | listener)) as u8;
        record.flags = (record.flags & !TUPLE_JUDGED) | whole << TUPLE_JUDGED.trailing_zeros();
    }
    combine(identity, judged, listener)
}

/// Brings the record up to the new state. Returns the time spent in the old one.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "all of it is inlined")]
fn arrive(
    record: &mut SocketRecord,
    followed: bool,
    role: u8,
    step: Step,
    now: u64,
    counters: Counters,
    socket: *const u8,
    flags: &mut u16,
) -> u64 {
    let mut duration_ns = UNKNOWN_NS;
    if step.is_birth() {
        // The end of the connection before. Its lines are another connection's, so it is only counted.
        if followed && record.state != NEW && record.state != State::CLOSE.0 {
            counters.add(Counter::Gap, 1);
        }
        born(record, step, now, counters, socket);
    } else if record.state == NEW {
        record.birth_ns = now;
        record.flags = BIRTH_UNKNOWN | (record.flags & TUPLE_JUDGED);
    } else {
        if record.state == step.old {
            if record.flags & SINCE_UNKNOWN == 0 {
                duration_ns = now.saturating_sub(record.since_ns);
                step.add_time(record, duration_ns);
                if record.flags & SINCE_ATTACH != 0 {
                    *flags |= flag::SINCE_ATTACH;
                }
            }
        } else if followed {
            counters.add(Counter::Gap, 1);
            *flags |= flag::GAP;
            infer(record, step, now, counters, flags);
        }
        record.flags &= !(SINCE_ATTACH | SINCE_UNKNOWN);
        if record.flags & BIRTH_UNKNOWN == 0 {
            *flags &= !flag::BIRTH_UNKNOWN;
        }
    }
    if record.owner_source == owner::NONE && step.is_owners_close() {
        socket_owner::set_current(record, owner::CLOSE, now);
    }
    record.role = role;
    record.since_ns = now;
    record.state = step.new;
    step.visit(record);
    duration_ns
}

/// Has what was missed wait in the record, as if it had come just now: the present transition decides it.
#[inline(always)]
fn infer(record: &mut SocketRecord, step: Step, now: u64, counters: Counters, flags: &mut u16) {
    if record.flags & PENDING != 0 {
        // There is room for one.
        return;
    }
    counters.add(Counter::Inferred, 1);
    counters.add(Counter::Seen, 1);
    counters.add(Counter::Pending, 1);
    record.flags |= PENDING;
    record.pending_boot_ns = now;
    record.pending_duration_ns = UNKNOWN_NS;
    record.pending_old_state = record.state;
    record.pending_new_state = step.old;
    record.pending_for = TraceSet::MAX;
    record.pending_shown = 0;
    *flags |= flag::PENDING_INFERRED;
}

/// A connection or listener begins, perhaps on a socket that had another before.
#[inline(always)]
fn born(record: &mut SocketRecord, step: Step, now: u64, counters: Counters, socket: *const u8) {
    drop_pending(record, counters);
    record.birth_ns = now;
    record.flags &= TUPLE_JUDGED;
    record.visited = 0;
    record.listener = 0;
    record.syn_retransmits = 0;
    figures::clear_times(&mut record.state_ns);
    if step.is_child() {
        record.owner_source = owner::NONE;
        record.owner_pid = 0;
        record.task_cgroup = 0;
        socket_owner::inherit(record, socket);
    } else {
        let source = if step.is_listener() { owner::LISTEN } else { owner::CONNECT };
        socket_owner::set_current(record, source, now);
    }
}

/// Emits, holds or filters.
#[inline(always)]
fn decide<H: Hook>(
    record: Option<&mut SocketRecord>,
    rules: &RuleTable,
    interest: &Interest,
    emission: &Emission<'_>,
    counters: Counters,
) {
    let Step { old, new, .. } = emission.step;
    let wanted = judge_transition(rules, interest, old, new, emission.duration_ns);
    let undecided = (wanted.traces | wanted.maybe) & interest.undecided;
    let sure =
        Wanted { traces: wanted.traces & !interest.undecided, maybe: wanted.maybe & !interest.undecided };
    let nothing = Wanted { traces: rules.none, maybe: rules.none };
    let mut earlier =
        Pending { flags: 0, boot_ns: rules.none, duration_ns: rules.none, old: 0, new: 0, wanted: nothing };
    let (mut judged, mut decides) = (1, 0);
    // What is undecided at a second look never will be decided: a port or a peer that is not there matches nothing.
    let at_last =
        Interest { accept: interest.accept & !interest.undecided, undecided: rules.none, ..*interest };
    let mut record = record;
    if let Some(record) = record.as_deref_mut() {
        if record.flags & PENDING != 0 {
            record.flags &= !PENDING;
            let shown = u64::from(record.pending_shown) & 1;
            counters.take(Counter::Pending, 1 - shown);
            judged = 2 - shown;
            earlier.boot_ns = record.pending_boot_ns;
            earlier.duration_ns = record.pending_duration_ns;
            earlier.old = record.pending_old_state;
            earlier.new = record.pending_new_state;
            let wanted = judge_transition(rules, &at_last, earlier.old, earlier.new, earlier.duration_ns);
            earlier.wanted.traces = wanted.traces & record.pending_for;
            earlier.wanted.maybe = wanted.maybe & record.pending_for;
            let found = earlier.wanted.count();
            decides = found & shown;
            earlier.flags = decides as u16 * flag::DECIDES + (found - decides) as u16 * flag::PENDING;
        } else if undecided != 0 && !emission.step.is_close() {
            record.flags |= PENDING;
            record.pending_boot_ns = emission.now;
            record.pending_duration_ns = emission.duration_ns;
            record.pending_old_state = old;
            record.pending_new_state = new;
            record.pending_for = TraceSet::MAX;
            record.pending_shown = 0;
            if sure.is_empty() {
                counters.add(Counter::Pending, 1);
                return;
            }
            record.pending_for = undecided;
            record.pending_shown = 1;
            earlier.flags = flag::UNDECIDED;
        }
    }
    let judged = forget(judged, rules.none);
    let decides = forget(decides, rules.none);
    earlier.flags = forget(earlier.flags.into(), rules.none) as u16;
    earlier.old = forget(earlier.old.into(), rules.none) as u8;
    earlier.new = forget(earlier.new.into(), rules.none) as u8;
    let count = sure.count() + earlier.wanted.count() - decides;
    if count < judged {
        counters.add(Counter::Filtered, judged - count);
    }
    if count + decides != 0 {
        emit::emit::<H>(record.as_deref(), emission, sure, &earlier, rules.stories, count, counters);
    }
}
