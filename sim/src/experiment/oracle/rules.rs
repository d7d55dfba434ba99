//! The rules of the oracle.
//!
//! `A→B` denotes the packet from A's endpoint for B to the endpoint of B that the rendezvous
//! observed. It is *admitted* when it reaches B's host. B then answers to where it came from,
//! through the flow that the packet created on its way and that A's boxes know, so a connection
//! comes about. Two hosts therefore connect if and only if one of `A→B` and `B→A` is ever admitted.
//!
//! | a layer of B admits A→B when … | because |
//! |---|---|
//! | it admits every remote (EIF, forwarded, open) | RFC 4787 §5 |
//! | or it is ADF, B has sent to A, and B's endpoint for A is the observed one | the packet is for the observed endpoint, and from an address that it was used to send to (RFC 4787 §5) |
//! | or it is APDF, B has sent to A, and both endpoints are the observed ones | the same, with the port |
//!
//! B's endpoint is the observed one at a layer when that layer, and every layer between it and B,
//! gives every destination the same endpoint (EIM, or preserved and shared). Hence the table that
//! was measured on kernels, with Y for always and n for never:
//!
//! | UDP, Together | EIM/EIF | EIM/ADF | EIM/APDF | APDM/APDF |
//! |---|---|---|---|---|
//! | EIM/EIF   | Y | Y | Y | Y |
//! | EIM/ADF   | Y | Y | Y | Y |
//! | EIM/APDF  | Y | Y | Y | n |
//! | APDM/APDF | Y | Y | n | n |
//!
//! | in addition | then |
//! |---|---|
//! | a firewall lets nothing of the transport out | never |
//! | a firewall does not let A out to B's port, or a NAT has no port for it | `A→B` is not sent, though it opens A's boxes that are further in |
//! | both are behind one NAT that does not hairpin | never (RFC 4787 §6) |
//! | … that hairpins with the external source | as if they met in the core, but that NAT drops what it does not admit in silence |
//! | … with the internal source | UDP: if all boxes between admit strangers, the answer goes by the inside. TCP: never, the SYN/ACK does not come from where the SYN went (RFC 4787 REQ-9) |
//! | UDP, First: A→B meets a NAT that takes it in (WAN input accepted) before B sent | B's endpoint for A is another (measured: conntrack keeps the stray entry, retries keep it alive) |
//! | First: A→B passes an outer box that admits strangers, and an inner one refuses it | the outer box has made a flow, by which B answers from the observed endpoint |
//! | … and it is the firewall of the NAT's own box that refuses it | the NAT keeps no flow (Linux: an entry is confirmed when its packet has passed all hooks) |
//! | TCP, First: A→B is met with a reset, by a box that is told to or by the box's own stack | A's hole is closed; B→A is admitted only by who admits strangers; then A tries again and meets B's hole (measured: RST kills an attempt; `ECONNREFUSED` is retryable) |
//! | … and B→A is met with one, too | B's hole is closed as well; both begin again, for ever (measured: both are refused if WAN input is accepted) |
//! | B's endpoint for A is not the observed one, and B has sent to the endpoint that A→B comes from | A→B is dropped: for a box with state the two endpoints speak through another external one already, whatever its filtering (a choice of the model: Linux lets it in from another port) |
//! | TCP, Together | SYNs cross: no box sees one that it did not expect from where it comes (measured: connects in 0.1 s, or with one retry in 0.88 s) |

use super::{
    Attempt, Hint, Meet, Pair, Reason, Transport, Way,
    side::{Side, SynAnswer},
};
use crate::middlebox::nat::{Filtering, Hairpin};

/// Predicts whether an attempt leads to a connection.
///
/// # Errors
/// The first reason on the path why it does not.
pub fn ask(transport: Transport, attempt: Attempt, pair: Pair<'_>) -> Result<(), Reason> {
    let a = Side::of(pair.a, transport, pair.family, pair.meet);
    let b = Side::of(pair.b, transport, pair.family, pair.meet);
    if [&a, &b]
        .into_iter()
        .any(|s| s.is_blocked() || !s.registers())
    {
        return Err(Reason::Blocked);
    }
    if pair.meet == Meet::Box {
        match b.hairpin() {
            Hairpin::None => return Err(Reason::NoHairpin),
            Hairpin::InternalSource => return by_the_inside(transport, attempt, &a, &b),
            Hairpin::ExternalSource => {}
        }
    }
    let (a_sent, b_sent) = (a.progress(&b), b.progress(&a));
    let (a_sends, b_sends) = (a_sent == a.layers.len(), b_sent == b.layers.len());
    let outcome = match attempt {
        Attempt::Dial if !a_sends => return Err(not_sent(&a, a_sent)),
        Attempt::Dial => return admitted(&a, &b, 0).then_some(()).ok_or(Reason::Unsolicited),
        Attempt::Together => {
            a_sends && admitted(&a, &b, b_sent) || b_sends && admitted(&b, &a, a_sent)
        }
        Attempt::First => in_turn(transport, pair.meet == Meet::Box, &a, &b),
    };
    if outcome {
        return Ok(());
    }
    let all = (a.layers.len(), b.layers.len());
    Err(if !a_sends {
        not_sent(&a, a_sent)
    } else if !b_sends {
        not_sent(&b, b_sent)
    } else if !admitted(&a, &b, all.1) && !admitted(&b, &a, all.0) {
        Reason::Remapped
    } else if transport == Transport::Udp {
        Reason::Collision
    } else {
        Reason::Reset
    })
}

/// How the two can connect when each does what it can.
#[must_use]
pub fn way(transport: Transport, pair: Pair<'_>) -> Way {
    let possible = |attempt, pair| ask(transport, attempt, pair).is_ok();
    let (a_dials, b_dials) = (
        possible(Attempt::Dial, pair),
        possible(Attempt::Dial, pair.turned()),
    );
    if a_dials || b_dials {
        return Way::Direct { a_dials, b_dials };
    }
    match ask(transport, Attempt::Together, pair) {
        Ok(()) => Way::Punch {
            uncrossed: possible(Attempt::First, pair) && possible(Attempt::First, pair.turned()),
        },
        Err(reason) => Way::No {
            reason,
            hint: (reason == Reason::Remapped)
                .then(|| hint(transport, pair))
                .flatten(),
        },
    }
}

/// Returns `true` when `from→to` is admitted, given that the packet of `to` for `from` has passed
/// the first `sent` of its own layers and they are still open.
fn admitted(from: &Side<'_>, to: &Side<'_>, sent: usize) -> bool {
    let expected = from.is_stable();
    if expected && to.layers[..sent].iter().any(|l| !l.stable) {
        // The two endpoints already have another flow.
        return false;
    }
    let mut observed = true;
    to.layers.iter().enumerate().all(|(n, layer)| {
        observed &= layer.stable && n < sent;
        match layer.filtering {
            None | Some(Filtering::EndpointIndependent) => true,
            Some(Filtering::AddressDependent) => observed,
            Some(Filtering::AddressAndPortDependent) => observed && expected,
        }
    })
}

/// A sends, and is answered if there is an answer, before B begins. `turned` means that their
/// packets are hairpinned in a box that both are behind.
fn in_turn(transport: Transport, turned: bool, a: &Side<'_>, b: &Side<'_>) -> bool {
    let a_sent = a.progress(b);
    let a_sends = a_sent == a.layers.len();
    if a_sends && admitted(a, b, 0) {
        return true;
    }
    let closes = |side: &Side<'_>| {
        transport == Transport::Tcp && side.syn_answer(turned) == SynAnswer::Reset
    };
    // A's packet was refused, and affects the flow from which B is going to send.
    let after = a_sends.then(|| b.refusing(turned, a.is_stable(), closes(b)));
    let b = after.as_ref().unwrap_or(b);
    let b_sent = b.progress(a);
    let b_sends = b_sent == b.layers.len();
    let a_left = if a_sends && closes(b) { 0 } else { a_sent };
    if b_sends && admitted(b, a, a_left) {
        return true;
    }
    // B's packet was refused, too, and has the same effect, unless A has a flow to its endpoint.
    let after = (b_sends && a_left == 0).then(|| a.refusing(turned, b.is_stable(), closes(a)));
    let a = after.as_ref().unwrap_or(a);
    let b_left = if b_sends && closes(a) { 0 } else { b_sent };
    // A box that accepted a packet for itself the first time accepts it again.
    let kept = transport == Transport::Udp && b.remembers(turned);
    if a_sends && !kept && admitted(a, b, b_left) {
        return true;
    }
    // A's second packet may be dropped where nothing resets it; its hole then stays open.
    let quiet = a_sends && a.is_stable() && b.shields(b_left);
    quiet && b_sends && admitted(b, a, a_sent)
}

/// Both are behind a box that hairpins packets, does not filter them (RFC 4787 §5 is about packets
/// from outside), and leaves their internal sender. The boxes further inside take the peer for a
/// stranger, in either direction.
fn by_the_inside(
    transport: Transport,
    attempt: Attempt,
    a: &Side<'_>,
    b: &Side<'_>,
) -> Result<(), Reason> {
    // The last layer, the NAT that hairpins the packet, needs no port for it.
    let sends = |from: &Side<'_>, to: &Side<'_>| from.progress(to) + 1 >= from.layers.len();
    if !sends(a, b) && (attempt == Attempt::Dial || !sends(b, a)) {
        return Err(not_sent(a, a.progress(b)));
    }
    if transport == Transport::Udp && a.inner_admits_strangers() && b.inner_admits_strangers() {
        Ok(())
    } else {
        Err(Reason::HairpinSource)
    }
}

/// The reason why a packet of `side` did not pass the layer `at`.
fn not_sent(side: &Side<'_>, at: usize) -> Reason {
    if side.layers.get(at).is_some_and(|l| l.translates) {
        Reason::NoPort
    } else {
        Reason::PortBlocked
    }
}

/// The hint for a pair whose packets are not admitted because an endpoint is not the observed one.
fn hint(transport: Transport, pair: Pair<'_>) -> Option<Hint> {
    let a = Side::of(pair.a, transport, pair.family, pair.meet);
    let b = Side::of(pair.b, transport, pair.family, pair.meet);
    if a.is_predictable() && b.is_predictable() {
        Some(Hint::Prediction)
    } else if a.is_stable() || b.is_stable() {
        Some(Hint::Birthday)
    } else {
        None
    }
}
