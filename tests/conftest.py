"""Fixtures that every room's tests may use. `tests/` is on sys.path: `from fakes.kubernetes import …`."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = [
    "api_server",
    "controlplane_fixtures",
    "deploy_manifests",
    "e2e_lab",
    "log_fixtures",
    "real_helm",
    "real_kubectl",
]

# How long an example takes says how busy the machine is. What must be bounded is counted, in the tests themselves.
settings.register_profile("jiemi", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("jiemi")
# For `just test-fast`: what is found at once if at all.
settings.register_profile("fast", settings.get_profile("jiemi"), max_examples=10)


_LONGEST_FIRST = (
    "e2e/test_many_credentials.py",
    "rpc/test_hostile_peers.py",
    "e2e/test_many_pgp_decryptions.py",
    "e2e/test_canary_providers.py",
    "e2e/test_memory_of_miwen.py",
    "e2e/test_faults.py",
    "e2e/test_canary_reconcile.py",
    "e2e/test_follow.py",
    "e2e/test_doing_nothing.py",
    "e2e/test_killed.py",
    "e2e/test_canary.py",
)
"""Files that take a minute and more, the longest first. A worker takes a whole file (`--dist loadfile`), so one that
comes last leaves the others idle; by itself pytest-xdist begins with the files that have the most tests
(`--no-loadscope-reorder` keeps it from that)."""


SLOW = {
    "blocking/test_fair_limiter.py": ("test_no_order_of_events_exceeds_a_bound_or_loses_anyone",),
    "cli/test_programs.py": (
        "test_krapao_and_doctor_do_not_start_with_such_a_flag",
        "test_own_command_runs_from_anywhere",
    ),
    "core/test_ciphertext.py": ("test_a_large_object_takes_little_time",),
    "core/test_documents.py": ("test_many_small_documents_of_nothing_are_bounded_too",),
    "core/test_status_bounds.py": ("test_what_is_written_after_anything_at_all_fits_the_schema",),
    "miwen/kubernetes/test_discovery.py": ("test_what_is_forgotten_again_and_again_is_asked_for_every_few_seconds",),
    "miwen/kubernetes/test_real_lists.py": ("test_a_page_takes_little_memory_though_its_objects_take_much",),
    "miwen/test_cleanup.py": ("test_after_five_minutes_it_gives_up_and_says_what_stays",),
    "miwen/test_correct.py": ("test_what_is_deployed_is_kept_right_while_the_newest_version_of_its_file_is_refused",),
    "miwen/test_deploy.py": (
        "test_a_definition_that_is_never_served_holds_nothing_else_up_for_ever",
        "test_force_waits_for_finalizers_and_not_for_ever",
    ),
    "miwen/test_drift_loop.py": ("test_a_fight_is_left_alone_for_growing_pauses_and_told_once_each",),
    "miwen/test_follow_decryptors.py": ("test_those_that_exist_are_found_page_by_page",),
    "miwen/test_force.py": (
        "test_all_definitions_of_an_apply_are_waited_for_together",
        "test_all_objects_of_an_apply_are_waited_for_together",
        "test_one_that_goes_at_once_is_made_anew_when_the_time_for_others_is_up",
    ),
    "miwen/test_memory_limits.py": (
        "test_objects_that_would_take_too_much_memory_are_refused_and_what_was_applied_stays",
    ),
    "miwen/test_object_watch_properties.py": ("test_ten_thousand_secrets_are_kept_in_a_few_megabytes",),
    "miwen/test_signals.py": ("test_a_failure_is_told_once_in_a_day_of_restarts_and_looks",),
    "miwen/test_slot.py": ("test_nothing_is_kept_of_what_is_as_it_was_applied_and_little_of_what_is_not",),
    "miwen/test_worst_cases.py": ("test_an_object_that_is_refused_for_ever_costs_no_write",),
    "rpc/test_rpc_calls.py": (
        "test_a_thousand_repositories_opened_and_closed_leave_nothing",
        "test_cancelling_at_any_moment_leaves_nothing_running",
    ),
    "rpc/test_hostile_peers.py": (),
    "rpc/test_session_secret.py": (),
}
"""What takes a second and more in the folders of `just test-fast`, which leaves it out: by file, the tests, or all."""


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
