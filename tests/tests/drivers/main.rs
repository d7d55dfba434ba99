//! One suite over all drivers: the laws of the contract, what it says of each kind of trouble,
//! and a scripted swarm. Every test is written once, over [`TestDriver`], and appears here by the
//! name of each driver.

#![allow(
    clippy::unwrap_used,
    reason = "a test that goes on without its answer proves nothing"
)]

mod files;
mod laws;
mod streams;
mod swarm;
mod trackers;

use dunlin_tests::driver::{Mio, Sim, Smoltcp, Tokio};

macro_rules! cases {
    ($driver:ty; $($room:ident: $($name:ident,)*;)*) => {
        $($(
            #[test]
            fn $name() {
                crate::$room::$name::<$driver>();
            }
        )*)*
    };
}

macro_rules! suite {
    ($name:ident, $driver:ty) => {
        mod $name {
            use super::*;

            cases! { $driver;
                laws:
                    law_1_every_op_is_answered_once,
                    law_1_a_fetch_that_is_not_supported_returns_its_blocks,
                    law_2_late_and_in_any_order,
                    law_3_an_idle_pair_does_not_spin,
                    law_4_idle_costs_do_not_grow,
                    law_5_a_jump_of_time_is_survived,
                    law_6_hostile_bytes_end_the_peer_at_most,
                    law_7_what_is_promised_of_two_runs,
                    law_8_nothing_exceeds_its_limit,
                ;
                streams:
                    a_refused_connection_is_said,
                    an_unanswered_connection_is_given_up,
                    a_reset_in_mid_transfer_leaves_nothing_behind,
                    a_half_closed_stream_is_closed,
                    who_does_not_read_starves_nobody,
                    blocks_that_were_lent_for_nothing_come_home,
                    silent_strangers_make_way_when_all_is_full,
                    an_address_that_cannot_be_had_is_said,
                    streams_and_datagrams_have_one_port,
                    a_torrent_travels_over_ipv4,
                    a_torrent_travels_over_ipv6,
                    a_magnet_travels,
                ;
                files:
                    a_disk_that_takes_nothing_is_said_and_can_be_mended,
                    files_that_vanish_under_a_seed_are_said,
                    a_pause_holds_until_it_is_ended,
                    what_is_removed_is_gone,
                    who_ended_well_goes_on,
                    who_was_killed_goes_on,
                    a_false_content_is_found_out,
                    who_insists_overwrites_a_false_content,
                    two_torrents_that_want_one_path_do_not_share_it,
                    where_nothing_may_be_written_nothing_is_fetched,
                    files_that_are_lost_are_fetched_again,
                ;
                trackers:
                    an_http_tracker_introduces_and_hears_all,
                    http_answers_of_all_kinds,
                    a_udp_tracker_introduces_and_hears_all,
                    names_are_looked_up,
                    other_services_are_not_asked,
                    silent_trackers_hold_up_nobody,
                    sloppy_answers_are_read,
                    a_port_that_is_not_bound_is_not_announced,
                    a_url_with_spaces_and_unicode_is_asked,
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
suite!(sim, Sim);
