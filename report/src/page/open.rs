//! What was open at the last look.

use maud::{Markup, html};

use super::words::{count, counted, duration};
use crate::open::Look;

/// Rows of each table.
const SHOWN: usize = 30;

pub(super) fn section(look: &Look) -> Markup {
    let mut sockets: Vec<_> = look.sockets.iter().collect();
    // What a program has forgotten to close is what one looks for.
    sockets.sort_by_key(|((_, state), sockets)| std::cmp::Reverse((state == "CLOSE_WAIT", sockets.count)));
    let mut queues: Vec<_> = look.queues.iter().collect();
    queues.sort_by_key(|queue| std::cmp::Reverse((queue.drops, queue.length)));
    html! {
        section {
            h2 { "Open at the last look" }
            p.soft { (look.time) }
            table.stack {
                thead { tr { th { "Owner" } th { "State" } th.n { "Sockets" } th.n { "Oldest" } } }
                @for ((owner, state), sockets) in sockets.iter().take(SHOWN) {
                    tr {
                        td data-is="Owner" { (owner) } td data-is="State" { (state) }
                        td.n data-is="Sockets" { (count(sockets.count)) }
                        td.n data-is="Oldest" { (sockets.oldest_us.map_or_else(|| "—".to_owned(), duration)) }
                    }
                }
            }
            @if sockets.len() > SHOWN { p.soft { "and " (counted((sockets.len() - SHOWN) as u64, "further row")) } }
            @if look.uncounted > 0 { p.warn { (counted(look.uncounted, "socket")) " of further owners." } }
            @if !queues.is_empty() {
                h2 { "Listeners that lose connections or keep them waiting" }
                table.stack {
                    thead { tr { th { "Owner" } th.n { "Port" } th.n { "Waiting" } th.n { "Room for" } th.n { "Dropped in all" } } }
                    @for queue in queues.iter().take(SHOWN) {
                        tr {
                            td data-is="Owner" { (queue.owner) } td.n data-is="Port" { (queue.port) }
                            td.n data-is="Waiting" { (queue.length) } td.n data-is="Room for" { (queue.limit) }
                            td.n data-is="Dropped in all" { (queue.drops.map_or_else(|| "—".to_owned(), |drops| count(u64::from(drops)))) }
                        }
                    }
                }
            }
        }
    }
}
