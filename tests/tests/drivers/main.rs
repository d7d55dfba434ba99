//! One suite over all drivers: the laws of the contract, what it says of each kind of trouble,
//! and a scripted swarm. Every test is written once, over [`Habitat`], and appears here by the
//! name of each driver.

#![allow(
    clippy::unwrap_used,
    reason = "a test that goes on without its answer proves nothing"
)]

mod laws;
mod swarm;

use dunlin_tests::habitat::{Mio, Smoltcp, Tokio};

macro_rules! cases {
    ($habitat:ty; $($room:ident: $($name:ident,)*;)*) => {
        $($(
            #[test]
            fn $name() {
                crate::$room::$name::<$habitat>();
            }
        )*)*
    };
}

macro_rules! suite {
    ($name:ident, $habitat:ty) => {
        mod $name {
            use super::*;

            cases! { $habitat;
                laws:
                    law_1_every_op_is_answered_once,
                    law_2_late_and_in_any_order,
                    law_3_an_idle_pair_does_not_spin,
                    law_4_idle_costs_do_not_grow,
                    law_5_a_jump_of_time_is_survived,
                    law_6_hostile_bytes_end_the_peer_at_most,
                    law_7_what_is_promised_of_two_runs,
                    law_8_nothing_exceeds_its_limit,
                ;
                swarm:
                    a_scripted_swarm,
                ;
            }
        }
    };
}

suite!(tokio, Tokio);
suite!(mio, Mio);
suite!(smoltcp, Smoltcp);
