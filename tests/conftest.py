"""Fixtures that every room's tests may use. `tests/` is on sys.path: `from support.miwen.world import …`."""

import gc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

pytest_plugins = [
    "support.kubernetes.api_server",
    "support.kubernetes.control_plane",
    "support.kubernetes.deploy_manifests",
    "support.e2e.lab",
    "support.processes.logging_restored",
    "support.kubernetes.helm",
    "support.kubernetes.kubectl",
    "support.kubernetes.cert_manager",
    "support.e2e.certified",
    "support.monitoring.promtool",
]

# How long an example takes says how busy the machine is. What must be bounded is counted, in the tests themselves.
settings.register_profile("jiemi", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("jiemi")
# For `just test-fast`: what is found at once if at all.
settings.register_profile(
    "fast",
    settings.get_profile("jiemi"),
    max_examples=10,
    database=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
)


_LONGEST_FIRST = (
    "e2e/test_many_credentials.py",
    "rpc/test_hostile_peers.py",
    "e2e/test_many_pgp_decryptions.py",
    "e2e/test_canary_providers.py",
    "e2e/test_memory_of_miwen.py",
    "e2e/test_cert_manager.py",
    "e2e/test_cert_manager_mistakes.py",
    "e2e/test_faults.py",
    "e2e/test_install_forms.py",
    "e2e/test_helm_install.py",
    "e2e/test_canary_reconcile.py",
    "e2e/test_forge.py",
    "e2e/test_alerts.py",
    "miwen/report/test_alerts.py",
    "e2e/test_follow.py",
    "e2e/test_definition_over_its_predecessors.py",
    "e2e/test_doing_nothing.py",
    "e2e/test_killed.py",
    "deploy/test_chart.py",
    "e2e/test_canary.py",
)
"""Files that take a minute and more, the longest first. A worker takes a whole file (`--dist loadfile`), so one that
comes last leaves the others idle; by itself pytest-xdist begins with the files that have the most tests
(`--no-loadscope-reorder` keeps it from that)."""


SLOW = {
    "test_environments.py": (),
    "krapao/git/test_flipped_bits.py": (),
    "krapao/git/test_killed_fetches.py": (),
    "krapao/git/test_received_pack.py": (
        "test_the_index_is_that_of_git",
        "test_what_a_thin_pack_builds_upon_is_found_and_joins_it",
        "test_a_long_line_of_deltas_is_followed_without_recursion",
        "test_any_bytes_are_a_pack_or_are_refused",
    ),
    "krapao/git/test_packs.py": ("test_a_stream_is_unpacked_at_once_as_in_pieces",),
    "krapao/git/test_soundness.py": ("test_each_flipped_bit_of_a_pack_and_its_index_is_seen",),
    "krapao/signatures/test_beside_git.py": (),
    "krapao/signatures/test_hostile_signatures.py": (),
    "krapao/signatures/test_parsers.py": (),
    "krapao/signatures/test_several_signers.py": (),
    "krapao/signatures/test_unverified_revisions.py": (),
    "rpc/codec/test_verification.py": (
        "test_what_must_be_signed_comes_back",
        "test_two_policies_have_one_digest_only_if_they_are_equal",
        "test_who_signed_comes_back",
    ),
    "miwen/report/test_metrics.py": ("test_decryptors_that_come_and_go_leave_no_more_series_the_more_there_were",),
    "miwen/reconcile/test_verification.py": (),
    "core/test_semver_beside_masterminds.py": (),
    "krapao/git/test_github_app.py": (),
    "krapao/test_old_hosts.py": (),
    "krapao/test_volume_watch.py": (),
    "krapao/git/test_redirects.py": (),
    "krapao/git/test_routes.py": (),
    "rpc/test_tls.py": (),
    "rpc/test_traces.py": (
        "test_a_client_that_sends_no_traces_is_answered",
        "test_a_krapao_that_knows_no_traces_answers_a_client_that_sends_them",
    ),
    "rpc/test_krapaos.py": (),
    "cli/test_log_ways.py": (),
    "cli/test_quiet_logs.py": (),
    "otlp/test_both_services.py": (),
    "otlp/test_exporter.py": (),
    "otlp/test_wire.py": ("test_any_text_number_and_truth_value_is_an_attribute",),
    "rpc/test_frozen_schemas.py": (
        "test_a_credential_that_an_older_krapao_would_ignore_is_refused_by_its_name",
        "test_an_older_krapao_is_not_asked_for_anything_where_revisions_must_be_signed",
        "test_a_method_that_an_older_krapao_does_not_have_is_a_reason_to_upgrade_it",
        "test_todays_client_follows_a_repository_of_an_older_krapao",
    ),
    "miwen/test_certificates.py": (),
    "miwen/test_renewal.py": (),
    "miwen/test_elector.py": ("test_one_of_three_works_and_stays_the_one",),
    "concurrency/test_fair_limiter.py": (
        "test_no_order_of_events_exceeds_a_bound_or_loses_anyone",
        "test_tenants_are_served_by_turns_and_each_in_its_own_order",
        "test_tenants_that_hang_hold_up_another_for_seconds_at_most",
        "test_with_more_tenants_that_hang_than_slots_another_gets_the_next_that_becomes_free",
    ),
    "concurrency/test_memory.py": ("test_freed_pages_of_all_arenas_go_back_to_the_system",),
    "cli/test_flags.py": ("test_what_is_heavy_is_not_imported_for_the_help_or_the_probe_of_miwen",),
    "cli/test_private_way.py": (),
    "cli/test_entry.py": (),
    "cli/test_metrics.py": ("test_healthz_fails_while_the_rpc_thread_or_a_worker_hangs_and_says_which",),
    "rpc/test_client_pulse.py": (
        "test_calls_and_watches_leave_one_that_is_silent_for_the_next",
        "test_where_there_is_no_other_the_call_says_that_it_did_not_answer",
        "test_a_call_that_takes_long_stays_where_it_is",
    ),
    "rpc/test_pulse.py": (
        "test_there_is_a_beat_for_each_answer_and_none_while_the_thread_hangs",
        "test_it_ends_without_a_beat_when_the_thread_has_ended",
    ),
    "cli/test_running.py": ("test_readiness_goes_first_and_the_probes_are_answered_until_all_is_cleaned_up",),
    "cli/test_log_lines.py": ("test_every_field_is_shown",),
    "cli/test_logs.py": ("test_a_line_that_cannot_be_written_is_lost_and_the_process_goes_on",),
    "core/objects/test_difference.py": ("test_depth_is_no_limit",),
    "miwen/webhooks/test_push_traces.py": ("test_who_rests_is_woken_by_a_question_within_the_trace_of_the_webhook",),
    "miwen/webhooks/test_keyed_hosts.py": (),
    "miwen/webhooks/test_guarded_get.py": (),
    "miwen/webhooks/test_receiver.py": (
        "test_a_body_beyond_the_bound_is_refused",
        "test_connections_that_say_nothing_end_and_keep_nobody_out",
        "test_of_a_flood_from_many_sources_no_more_is_read_than_the_pace_lets",
        "test_genuine_requests_cost_their_source_nothing",
        "test_a_body_that_drips_ends_and_counts_against_its_source",
        "test_behind_a_proxy_the_source_is_whom_the_proxy_saw",
    ),
    "core/webhooks/test_payload.py": ("test_any_json_is_a_push_or_none",),
    "core/objects/test_protected.py": ("test_all_that_deploy_installs_is_protected",),
    "core/decisions/test_dependency_cycles.py": ("test_depth_is_no_limit_and_each_is_asked_once",),
    "cli/test_programs.py": (
        "test_krapao_and_doctor_do_not_start_with_such_a_flag",
        "test_own_command_runs_from_anywhere",
    ),
    "core/content/test_ciphertext.py": ("test_a_large_object_takes_little_time", "test_nothing_else_is_found"),
    "core/api/test_crd.py": ("test_the_file_under_deploy_is_what_the_command_prints",),
    "core/content/test_documents.py": (
        "test_any_bytes_give_documents_or_a_typed_error",
        "test_json_that_is_deep_or_has_a_huge_number_is_refused_before_it_is_built",
    ),
    "core/content/test_yaml_documents.py": ("test_many_empty_documents_are_bounded_too",),
    "core/content/test_globs.py": ("test_no_path_makes_a_glob_slow",),
    "core/test_near.py": ("test_very_many_and_very_long_names_take_little_time",),
    "core/api/test_status_bounds.py": (
        "test_the_status_written_after_a_stored_one_fits_the_schema",
        "test_the_status_written_after_anything_at_all_fits_the_schema",
    ),
    "miwen/kubernetes/test_discovery.py": ("test_what_is_forgotten_again_and_again_is_asked_for_every_few_seconds",),
    "miwen/kubernetes/test_http.py": (
        "test_a_write_that_is_not_answered_within_the_fence_is_not_waited_for",
        "test_a_short_pause_that_the_server_asks_for_is_made",
        "test_an_answer_that_drips_ends_at_the_deadline",
        "test_each_refusal_of_a_status_has_its_reason",
    ),
    "miwen/kubernetes/test_real_lists.py": (
        "test_a_decryptor_that_is_too_large_is_left_out_by_the_list_of_metadata",
        "test_a_page_takes_little_memory_though_its_objects_take_much",
        "test_a_page_that_is_too_large_is_asked_for_again_with_half_as_many",
        "test_an_object_and_a_refusal_are_not_read_without_end",
        "test_the_next_try_of_a_page_that_did_not_come_in_time_asks_for_half_as_many",
    ),
    "miwen/kubernetes/test_real_objects.py": (
        "test_a_deletion_waits_as_long_as_it_is_asked_to",
        "test_a_kind_that_is_no_longer_served_is_asked_for_again",
        "test_an_object_larger_than_an_api_server_reads_is_not_sent",
    ),
    "miwen/reconcile/test_finalizer.py": (
        "test_a_cleanup_may_take_longer_than_the_timeout_of_a_deployment",
        "test_a_time_of_deletion_that_can_not_be_read_is_long_ago",
        "test_after_five_minutes_it_gives_up_and_says_what_stays",
    ),
    "miwen/test_audit.py": (
        "test_a_failure_that_is_new_is_reported_though_the_rate_of_events_is_used_up",
        "test_all_files_and_objects_that_failed_are_in_status_and_gone_once_they_are_mended",
        "test_each_rollback_has_an_event_with_both_commits_however_often",
    ),
    "miwen/reconcile/test_correction.py": (
        "test_each_object_is_kept_right_as_of_the_revision_that_it_was_applied_by",
        "test_what_is_deployed_is_kept_right_while_the_newest_version_of_its_file_is_refused",
    ),
    "miwen/reconcile/test_deployment.py": (
        "test_a_definition_that_is_never_served_holds_nothing_else_up_for_ever",
        "test_force_waits_for_finalizers_and_not_for_ever",
        "test_more_objects_than_a_status_can_hold_are_refused_before_any_is_applied",
        "test_what_can_not_be_read_deletes_nothing_whatever_is_set",
    ),
    "miwen/reconcile/test_drift_correction.py": (
        "test_a_drift_conflict_is_left_alone_for_growing_pauses_and_reported_once_per_pause",
    ),
    "miwen/report/test_event_object.py": ("test_any_names_and_notes_make_an_event_that_the_api_server_takes",),
    "miwen/controller/test_decryptor_watch.py": ("test_those_that_exist_are_found_page_by_page",),
    "miwen/apply/test_recreate.py": (
        "test_a_service_that_has_its_node_port_does_not_stand_in_its_own_way",
        "test_all_definitions_of_an_apply_are_waited_for_together",
        "test_all_objects_of_an_apply_are_waited_for_together",
        "test_one_that_goes_at_once_is_recreated_when_the_time_for_others_is_up",
    ),
    "miwen/test_moves.py": (),
    "core/decisions/test_interests.py": (
        "test_a_folder_stands_for_every_path_below_it",
        "test_hostile_globs_are_bounded_and_cost_other_namespaces_nothing",
        "test_it_is_those_whose_patterns_match_whatever_came_and_went_before",
        "test_long_globs_are_bounded_too",
        "test_many_folders_and_many_globs_are_bounded_together",
        "test_many_who_follow_other_files_cost_a_push_nothing",
    ),
    "miwen/test_counted_work.py": ("test_a_cold_start_a_push_and_an_idle_interval_cost_what_they_cost_before",),
    "miwen/test_memory_limits.py": (
        "test_objects_that_would_take_too_much_memory_are_refused_and_what_was_applied_stays",
        "test_those_whose_files_take_much_memory_are_applied_one_at_a_time_and_namespaces_take_turns",
        "test_what_is_known_of_broken_files_is_forgotten_where_there_is_no_room_for_it",
    ),
    "miwen/watch/test_object_watches_properties.py": (
        "test_ten_thousand_secrets_are_kept_in_a_few_megabytes",
        "test_what_is_reported_adds_up_to_what_is_there",
    ),
    "miwen/test_signals.py": ("test_a_failure_is_reported_once_in_a_day_of_restarts_and_looks",),
    "miwen/state/test_mailbox.py": ("test_nothing_is_kept_of_what_is_as_it_was_applied_and_little_of_what_is_not",),
    "miwen/test_worst_cases.py": (
        "test_an_object_that_is_refused_for_ever_costs_no_write",
        "test_objects_in_paths_that_no_status_can_hold_are_refused_before_any_is_applied",
        "test_who_may_not_write_an_object_keeps_nobody_else_from_it",
    ),
    "rpc/test_rpc_calls.py": (
        "test_a_call_that_takes_too_long_is_a_timeout_and_ends_in_krapao",
        "test_a_thousand_repositories_opened_and_closed_leave_nothing",
        "test_a_watch_hears_the_newest_and_ends_with_its_cancelling",
        "test_answers_beyond_the_bytes_in_flight_wait_for_their_turn",
        "test_answers_that_were_taken_count_no_more_though_their_repositories_stay_open",
        "test_cancelling_at_any_moment_leaves_nothing_running",
        "test_no_object_of_capnps_waits_for_the_garbage_collector",
        "test_the_connections_of_one_host_share_what_it_may_have",
        "test_the_largest_answer_is_taken_and_a_larger_one_is_a_typed_failure",
        "test_the_largest_number_of_files_is_taken_and_a_larger_one_is_a_typed_failure",
        "test_two_hundred_calls_at_once_are_all_answered",
    ),
    "rpc/test_rpc_connections.py": (
        "test_a_connection_that_opens_no_session_is_closed",
        "test_a_server_killed_in_the_middle_of_a_call_is_replaced",
        "test_a_server_that_says_nothing_is_given_up",
        "test_damaged_messages_of_a_real_client_hurt_no_other",
        "test_the_bridge_ends_though_a_peer_takes_nothing_and_stays",
        "test_what_is_no_krapao_is_given_up",
        "test_without_a_server_calls_wait_a_little_and_then_name_its_address",
    ),
    "rpc/test_hostile_krapao.py": (),
    "rpc/test_hostile_peers.py": (),
    "rpc/test_session_secret.py": (),
    "rpc/test_answer_budget.py": ("test_answers_that_wait_are_charged_and_one_too_many_is_refused",),
    "miwen/state/test_loop_state.py": ("test_drift_correction_alone_says_which_objects_differ",),
    "core/content/test_pgp_armor.py": ("test_the_armor_is_what_gpg_writes",),
    "core/objects/test_managed_fields.py": ("test_entries_that_are_broken_keep_none_of_the_good_ones_from_counting",),
    "miwen/controller/test_loop.py": (
        "test_namespaces_that_hang_hold_up_another_for_seconds_at_most",
        "test_who_does_something_about_a_failure_does_not_wait_for_the_pauses_that_grew_before",
    ),
    "miwen/watch/test_object_watches.py": (
        "test_a_list_that_breaks_off_halfway_takes_nothing_for_gone",
        "test_many_objects_are_listed_page_by_page",
    ),
    "core/test_names.py": ("test_a_text_with_other_characters_is_not_a_name",),
    "miwen/kubernetes/test_kubeconfig.py": ("test_a_kubeconfig_that_can_not_be_used_says_what_is_wrong",),
    "concurrency/test_calls.py": (
        "test_a_body_that_ends_with_the_connection_can_be_interrupted_too",
        "test_a_pooled_request_ends_when_its_call_is_cancelled",
    ),
    "core/objects/test_readiness.py": ("test_no_shape_of_a_known_kind_raises_and_nothing_of_it_is_repeated",),
    "rpc/codec/test_render.py": ("test_rendered_documents_come_back",),
    "core/test_memory.py": ("test_the_size_of_a_value_is_not_underestimated_by_much",),
    "rpc/codec/test_files.py": ("test_files_come_back_and_take_no_more_room_than_is_counted",),
}
"""What takes a tenth of a second and more where `just test-fast` looks, which leaves it out: per file, the tests,
or all of them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, all else stays in its order; and mark what is slow."""
    folder = Path(__file__).parent
    slow = {folder / name: tests for name, tests in SLOW.items()}
    for item in items:
        tests = slow.get(item.path)
        if tests is not None and (not tests or getattr(item, "originalname", item.name) in tests):
            item.add_marker(pytest.mark.slow)
    place = {folder / name: number for number, name in enumerate(_LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


def pytest_collection_finish(session: pytest.Session) -> None:
    """What the modules made stays to the end: the garbage collector need not look through it again and again. Where
    memory is measured, in the slow ones, it looks as often as it does in the services."""
    gc.collect()
    gc.freeze()
    if session.config.getoption("--hypothesis-profile") == "fast":
        gc.set_threshold(50_000, 20, 50)
