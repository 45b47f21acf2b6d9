//! `kin` on two, three and four real hosts: network namespaces with multicast between them.
//!
//! This binary has its own `main` for two reasons. Without root it must enter a user namespace before
//! any thread exists; and a test whose machine lacks something (namespaces, IPv6) must count as
//! *skipped*, never as passed: it is listed as ignored, and one test, which always runs, prints the
//! reasons. On such a machine `cargo nextest run` ends with "N skipped".
//!
//! Tests are named by what a person would say; faults of dsync that must not be ours are `dsync_NN_…`
//! with the number they have in the list this project keeps. What a test needs is named in front of it.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "the tests play the person who owns the files, and talk to whoever runs them"
)]

mod attacks;
mod brake;
mod bulk;
mod ceremonies;
mod common;
mod counts;
mod crash;
mod devices;
mod dsync;
mod edits;
mod harness;
mod links;
mod many;
mod meet;
mod memory;
mod past;
mod sites;
mod ssh;
mod ssh_meet;
mod stranger;
mod trouble;

use std::{collections::BTreeMap, process::ExitCode};

use lab::{LongLine, Machine};
use libtest_mimic::{Arguments, Trial};

/// What a test needs of the machine.
#[derive(Clone, Copy)]
enum Needs {
    /// Network namespaces.
    Lan,
    /// And IPv6.
    Ipv6,
    /// And lines that can be made slow.
    Shaping,
    /// And devices of which a long line can be made.
    Far,
    /// And a way to run a program with fewer rights (`setpriv`).
    Setpriv,
    /// And a terminal to run it in (`script`).
    Terminal,
    /// And routers between networks (`nft`).
    Nat,
    /// And a way to count system calls (`strace`).
    Strace,
    /// And OpenSSH's server, and accounts of their own on the hosts.
    Sshd,
}

impl Needs {
    /// What is missing here, if anything.
    fn missing(self, machine: &Machine) -> Option<String> {
        let program =
            |name: &str| (!Machine::has(name)).then(|| format!("the command `{name}` is missing"));
        machine.namespaces.clone().err().or_else(|| match self {
            Self::Lan => None,
            Self::Ipv6 => (!machine.ipv6).then(|| "this kernel has no IPv6".to_owned()),
            Self::Shaping => {
                (!machine.shaping).then(|| "`tc` cannot make a line slow here".to_owned())
            }
            Self::Far => {
                (!LongLine::is_possible()).then(|| "there is no /dev/net/tun here".to_owned())
            }
            Self::Setpriv => program("setpriv"),
            Self::Terminal => program("script"),
            Self::Nat => program("nft"),
            Self::Strace => program("strace"),
            Self::Sshd => lab::sshd::missing(),
        })
    }
}

macro_rules! all {
    ($($module:ident { $($needs:ident $name:ident)* })*) => {
        vec![$($((
            concat!(stringify!($module), "::", stringify!($name)),
            Needs::$needs,
            $module::$name as fn(),
        ),)*)*]
    };
}

fn tests() -> Vec<(&'static str, Needs, fn())> {
    all! {
        harness {
            Lan multicast_passes_until_the_cable_is_pulled
            Lan a_failing_test_leaves_no_namespace
            Shaping a_slow_line_is_slow_and_counted
        }
        meet {
            Lan two_devices_find_each_other_and_become_the_union_until_ctrl_c
            Lan a_no_on_one_side_syncs_nothing
            Lan end_of_input_is_no
            Lan a_peer_given_by_hand_without_discovery
            Lan only_the_same_topic_meets
            Lan who_knows_the_passphrase_is_accepted
            Lan who_does_not_know_the_passphrase_is_refused
            Lan open_says_so_loudly_and_answers_for_its_own_side_only
            Lan once_ends_when_both_agree
            Lan once_alone_times_out
            Ipv6 a_network_with_ipv6_only
            Ipv6 a_network_with_link_local_addresses_only
            Lan both_dial_at_once_and_one_link_stays
        }
        devices {
            Lan t9_a_day_in_the_life_of_three_devices
            Lan t10_what_happened_while_a_device_was_away_reaches_it_by_any_member
            Lan pairing_with_an_address_needs_no_discovery_and_a_no_leaves_nothing
        }
        counts {
            Strace small_files_cost_few_system_calls
            Lan equal_folders_that_meet_exchange_no_contents
            Lan a_large_file_is_read_twice_and_travels_once
        }
        sites {
            Nat t16_a_code_is_joined_across_two_nats_by_way_of_a_relay_that_knows_nothing
            Nat t4_a_token_pairs_two_sites_and_a_folder_comes_through_the_splice
            Nat t18_the_issuer_is_away_and_the_relay_is_killed_in_the_middle
            Nat t18_the_relay_is_killed_between_an_offer_and_its_yes
            Nat t18_an_issuer_restored_from_a_backup_suspends_its_codes
            Nat t1_a_link_through_a_relay_moves_over_when_a_direct_way_works
            Lan attack_37_a_relay_that_is_down_changes_nothing_on_a_local_network
            Lan t20_a_code_is_joined_on_a_local_network_without_any_relay
        }
        ceremonies {
            Lan attack_07_a_man_in_the_middle_shows_other_strings_and_leaves_nothing
            Lan t8_a_kill_at_any_step_of_a_pairing_leaves_both_or_neither
            Lan a_choice_that_comes_to_nothing_is_offered_again
            Lan t10_both_halves_of_a_partition_change_members_and_come_to_one_group
            Lan a_device_heeds_its_config_file_while_it_runs
        }
        ssh {
            Sshd what_is_installed_by_hand_opens_a_login_and_closes_it_again
            Sshd t23_pairing_opens_logins_both_ways_and_unpair_closes_them
            Sshd attack_19_a_changed_host_key_is_a_hard_stop
            Sshd a_new_key_is_proved_before_the_old_one_goes
            Sshd a_rotation_that_is_broken_off_is_gone_on_with
            Sshd a_key_of_another_kind_is_the_one_that_linked_devices_are_told
            Sshd t23_all_lets_in_who_is_listed_and_agreed_to
            Sshd t23_a_leave_holds_for_its_time_and_its_networks
            Sshd attack_21_a_removed_device_is_kept_out_and_its_sessions_are_listed
            Sshd attack_17_a_full_disk_and_a_read_only_home_leave_files_as_they_were
        }
        ssh_meet {
            Sshd t3_after_pair_one_logs_in_to_the_other_and_not_the_reverse
            Sshd t9_after_sync_each_logs_in_to_the_other
            Sshd t3_a_no_on_one_side_installs_nothing_and_both_exit_3
            Sshd t6_end_of_input_is_no_and_yes_needs_an_expected_device
            Sshd nobody_comes_and_it_exits_4
            Sshd attack_07_somebody_in_between_shows_other_words
            Sshd both_start_to_sync_at_once_and_both_are_done_each_time
            Sshd a_scan_lists_who_listens_and_pair_takes_the_number
            Sshd connecto_is_served_after_a_question_that_says_what_is_not_proven
            Sshd a_listener_of_connecto_is_paired_with
            Sshd a_listener_of_connecto_that_announces_nothing_is_found
            Sshd attack_11_what_is_proven_comes_before_connecto
            Sshd connectos_adverts_are_there_with_the_flag_only
            Sshd it_works_where_there_is_no_ipv4
            Sshd connecto_syncs_whoever_begins_and_also_when_both_do
        }
        many {
            Lan three_hosts_become_one_union
            Lan a_late_third_is_vouched_for_and_nobody_is_asked_twice
            Lan four_hosts_edit_at_once_and_converge
        }
        links {
            Lan a_cut_and_mended_link
            Lan packets_that_vanish_silently
            Lan a_changed_address
            Lan a_suspended_process
            Far e24_over_a_long_way_a_file_comes_by_four_connections_and_the_line_breaks_as_one
            Lan e24_on_a_short_way_there_is_one_connection
        }
        memory {
            Lan deletes_and_renames_between_two_runs_are_honoured
            Lan an_unchanged_folder_is_not_read_again
            Lan a_first_meeting_keeps_both_of_two_contents
        }
        brake {
            Lan e19_a_mass_deletion_is_asked_about_on_both_sides
            Lan e19_once_fails_while_deletions_are_held_and_accept_deletes_goes_on
            Lan attack_31_a_folder_that_is_taken_away_is_no_deletion
        }
        past {
            Lan what_another_device_deleted_is_brought_back_everywhere
        }
        crash {
            Shaping the_receiver_is_killed_during_a_transfer
            Shaping the_sender_is_killed_during_a_transfer
            Shaping a_broken_transfer_of_one_gib_resumes
            Shaping ctrl_c_during_work_leaves_nothing_behind
            Shaping a_second_ctrl_c_stops_at_once_and_the_next_start_recovers
        }
        trouble {
            Lan attack_35_a_full_disk_stops_only_what_does_not_fit
            Lan e18_a_folder_whose_parent_was_moved_is_gone
            Lan attack_35_a_disk_that_is_full_at_the_start_is_said
            Lan attack_35_a_folder_whose_disk_was_full_at_the_start_begins_by_itself
            Lan attack_35_a_disk_too_full_for_the_index_stops_nothing_for_good
            Lan attack_35_too_many_open_files_is_said_and_passes
            Lan attack_35_more_directories_than_may_be_watched
        }
        bulk {
            Lan a_real_tree_byte_for_byte
            Lan what_travels
            Lan what_cannot_travel_is_reported_and_the_rest_goes_on
        }
        stranger {
            Lan dsync_01_a_stranger_reads_writes_and_deletes_nothing
            Lan dsync_01_a_rogue_advert_changes_nothing
            Lan dsync_02_a_man_in_the_middle_reads_and_changes_nothing
            Lan dsync_02_what_was_recorded_cannot_be_replayed
            Lan dsync_03_a_stranger_gets_neither_memory_nor_time
        }
        attacks {
            Lan attack_12_malformed_packets_do_not_stop_discovery
            Lan attack_15_the_passphrase_is_in_no_argument_log_or_file
            Lan attack_33_a_folder_restored_from_a_backup_brings_nothing_back
            Lan attack_34_edits_that_race_with_an_apply_are_kept
            Lan attack_40_a_folder_copied_with_its_state
        }
        edits {
            Lan dsync_04_edits_and_deletes_in_quick_succession
            Lan dsync_05_every_way_to_save_a_file
            Lan dsync_07_edits_at_the_same_time_agree_and_both_are_kept
            Shaping dsync_08_files_that_change_while_they_are_sent
            Lan dsync_14_modes_times_empty_directories_and_links
        }
        dsync {
            Lan dsync_06_reading_is_not_changing
            Lan dsync_09_ctrl_c_keeps_the_users_part_files
            Lan dsync_10_twenty_thousand_files_both_ways_at_once
            Lan dsync_11_a_restarted_peer_gets_the_first_edit
            Setpriv dsync_12_an_unreadable_file_stops_only_itself
            Terminal dsync_12_a_long_name_on_a_terminal
            Lan dsync_13_directories_are_renamed_made_and_removed
            Lan dsync_15_ignores_and_flags_hold_from_the_first_run
            Lan dsync_16_deletes_made_while_apart_stay
        }
    }
}

fn main() -> ExitCode {
    if let Some(ended) = stranger::play_role() {
        return ended;
    }
    let arguments = Arguments::from_args();
    let machine = Machine::probe();
    if !arguments.list
        && machine.namespaces.is_ok()
        && let Err(why) = machine.enter()
    {
        eprintln!("cannot enter a user namespace, which the probe could: {why}");
        return ExitCode::FAILURE;
    }
    let mut trials = Vec::new();
    let mut skipped: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, needs, test) in tests() {
        let missing = needs.missing(&machine);
        if let Some(missing) = &missing {
            skipped.entry(missing.clone()).or_default().push(name);
        }
        let run = move || {
            test();
            Ok(())
        };
        trials.push(Trial::test(name, run).with_ignored_flag(missing.is_some()));
    }
    // The runner hides what is said while tests are listed; this one is shown (.config/nextest.toml).
    trials.push(Trial::test("what_is_skipped_here_is_said", move || {
        if skipped.is_empty() {
            println!("this machine can run every two-host test");
        }
        for (missing, names) in &skipped {
            println!("SKIPPED, {} two-host tests: {missing}: {}", names.len(), names.join(" "));
        }
        Ok(())
    }));
    libtest_mimic::run(&arguments, trials).exit_code()
}
