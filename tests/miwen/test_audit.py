"""Events as an audit, and all that failed in status: what changed and by which commit, what went, what stays."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from structlog.testing import capture_logs
from support.miwen.objects import config, notes
from support.miwen.world import FILE, INTERVAL, URL, World, miwen, secret, settle
from trio.testing import MockClock

from jiemi.core.api.decryptor import API_VERSION, KIND
from jiemi.core.errors import Failure


async def look() -> None:
    await trio.sleep(INTERVAL + 1)


async def ask(world: World, stamp: object) -> None:
    """Let the Decryptor be reconciled now, by the annotation for that."""
    annotations = {"jiemi.cr/reconcile-at": str(stamp)}
    world.cluster.edit(KIND, "default", "app", api_version=API_VERSION, metadata={"annotations": annotations})
    await settle()


def short(revision: str) -> str:
    return revision[:12]


# --- what changed, and by which commit


async def test_a_deployment_tells_what_it_added_and_changed_and_by_which_commit(
    world: World, autojump_clock: MockClock
) -> None:
    first = world.origin.commit({FILE: [secret("a", k="1"), secret("b", k="1"), config("c", k="1")]})
    world.add()
    async with miwen(world):
        second = world.origin.commit({FILE: [secret("a", k="2"), secret("b", k="1"), config("c", k="1"), config("d")]})
        await look()
        told = notes(world, "Applied")
        assert told[0].endswith(f"; by {short(first)}: added ConfigMap default/c, Secret default/a, Secret default/b")
        assert told[1].endswith(
            f"; by {short(second)}: added ConfigMap default/d; changed Secret default/a; 2 unchanged"
        )


async def test_after_a_restart_nothing_is_called_changed_that_is_not_known_to_be(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [secret("a", k="1"), secret("b", k="1")]})
    world.add()
    async with miwen(world):
        pass
    revision = world.origin.commit({FILE: [secret("a", k="2"), secret("b", k="1")]})
    async with miwen(world):
        await look()
        [_, told] = notes(world, "Applied")
        assert f"; by {short(revision)}: " in told
        assert "Secret default/a" in told
        assert "changed Secret default/b" not in told


async def test_what_a_failing_deployment_changed_is_reported_with_its_commit(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [secret("a", k="1"), {**secret("b", k="1"), "immutable": True}]})
    world.add()
    async with miwen(world):
        revision = world.origin.commit({FILE: [secret("a", k="2"), {**secret("b", k="2"), "immutable": True}]})
        await look()
        assert world.reason() == "FieldImmutable"
        assert notes(world, "Changed") == [f"Changed: applied by {short(revision)}: changed Secret default/a"]
        await look()
        await look()
        assert len(notes(world, "Changed")) == 1, "what changes nothing is not told"


async def test_a_commit_that_only_adds_many_objects_names_some_and_counts_the_others(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [secret(f"s{number:02}", k="1") for number in range(40)]})
    world.add()
    async with miwen(world):
        [told] = notes(world, "Applied")
        assert "Secret default/s09 and 30 more" in told
        assert "s10" not in told


# --- rollbacks


async def test_each_rollback_has_an_event_with_both_commits_however_often(
    world: World, autojump_clock: MockClock
) -> None:
    first = world.origin.commit({FILE: [secret(k="1")]})
    world.add()
    async with miwen(world):
        second = world.origin.commit({FILE: [secret(k="2")]})
        await ask(world, "second")
        for number in range(20):  # more than the rate of Events lets through
            for left, back in ((second, first), (first, second)):
                world.origin.move_to(back)
                await ask(world, f"{number} {back}")
                told = notes(world, "RolledBack")[-1]
                assert f"back from revision {short(left)}" in told
                assert f"by {short(back)}: changed Secret default/app" in told
        assert len(notes(world, "RolledBack")) == 40


async def test_a_revision_that_was_never_deployed_is_no_rollback(world: World, autojump_clock: MockClock) -> None:
    world.add()
    async with miwen(world):
        for number in range(3):
            world.origin.commit({FILE: [secret(k=str(number))]})
            await look()
        world.add(driftPolicy="Report")  # the same revision of another spec
        await settle()
        assert notes(world, "RolledBack") == []
        assert len(notes(world, "Applied")) == 5


# --- what went, and what stays


async def test_what_leaves_git_and_stays_is_reported_once(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({FILE: [secret("a", k="1"), secret("b", k="1"), config("c")]})
    world.add()
    async with miwen(world):
        revision = world.origin.commit({FILE: [secret("a", k="1")]})
        await look()
        world.origin.commit({FILE: [secret("a", k="2")]})
        for _ in range(3):
            await look()
        [told] = notes(world, "NotPruned")
        assert told == (
            f"NotPruned: left the repository (revision {short(revision)}) and stay in the cluster, because spec.prune "
            "is false: ConfigMap default/c, Secret default/b. Jiemi follows them no longer: delete them yourself if "
            "nothing needs them"
        )
        assert world.data("b") == {"k": "1"}


async def test_what_pruning_leaves_is_reported_and_what_is_gone_already_is_not(
    world: World, autojump_clock: MockClock
) -> None:
    kept = {**secret("kept", k="1"), "metadata": {"name": "kept", "annotations": {"jiemi.cr/prune": "disabled"}}}
    world.origin.commit({FILE: [secret("a", k="1"), kept, secret("gone", k="1"), secret("b", k="1")]})
    world.add(prune=True, driftPolicy="Report")
    async with miwen(world):
        world.cluster.delete("Secret", "default", "gone")
        revision = world.origin.commit({FILE: [secret("a", k="1")]})
        await look()
        [stays] = notes(world, "NotPruned")
        assert "annotated jiemi.cr/prune: disabled, or are another's by their labels: Secret default/kept." in stays
        [deleted] = notes(world, "Pruned")
        assert deleted == (
            f"Pruned: deleted, because they left the repository (revision {short(revision)}): Secret default/b"
        )


async def test_what_force_deletes_is_reported_with_the_commit(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({FILE: [{**secret(k="1"), "immutable": True}]})
    world.add(force=True)
    async with miwen(world):
        revision = world.origin.commit({FILE: [{**secret(k="2"), "immutable": True}]})
        await look()
        assert notes(world, "Recreated") == [
            f"Recreated: Secret default/app is deleted to be recreated by revision {short(revision)} (spec.force)"
        ]


@pytest.mark.parametrize("policy", ["Orphan", "Delete"])
async def test_deleting_a_decryptor_is_logged_and_reported_with_what_stays(
    world: World, autojump_clock: MockClock, policy: str
) -> None:
    world.origin.commit({FILE: [secret("a", k="1"), secret("b", k="1")]})
    world.add(deletionPolicy=policy)
    async with miwen(world):
        with capture_logs() as logs:
            world.delete()
            await trio.sleep(5)
        [told] = notes(world, "Deleted")
        [logged] = [each for each in logs if each["event"] == "decryptor_deleted"]
        assert (logged["namespace"], logged["name"]) == ("default", "app")
        if policy == "Delete":
            assert told == "Deleted: the Decryptor is deleted, and nothing that it applied stays"
            assert (logged["objects"], world.data("a")) == (0, None)
        else:
            assert told == (
                "Deleted: the Decryptor is deleted (deletionPolicy: Orphan); 2 objects that it applied stay in the "
                "cluster, and nobody follows them: Secret default/a, Secret default/b"
            )
            assert (logged["objects"], world.data("a")) == (2, {"k": "1"})


async def test_a_decryptor_that_is_deleted_and_made_again_is_reported_as_deleted_once(
    world: World, autojump_clock: MockClock
) -> None:
    world.add()
    async with miwen(world):
        world.delete()
        world.add()
        await trio.sleep(5)
        assert len(notes(world, "Deleted")) == 1
        assert world.reason() == "Synced"
        world.cluster.edit(KIND, "default", "app", api_version=API_VERSION, spec={"suspend": True})
        await trio.sleep(5)
        assert len(notes(world, "Deleted")) == 1


# --- failures


async def test_a_failure_that_is_new_is_reported_though_the_rate_of_events_is_used_up(
    world: World, autojump_clock: MockClock
) -> None:
    world.add()
    async with miwen(world):
        for number in range(30):
            world.origin.commit({FILE: [secret(k=str(number))]})
            await ask(world, number)
        assert len(notes(world, "Applied")) < 31, "the rate is used up"
        for number, reason in enumerate(("MacMismatch", "KeyMissing", "NotEncrypted")):
            world.origin.commit({FILE: Failure(reason, f"it is {reason}")})
            await ask(world, reason)
            [told] = notes(world, reason)
            assert f"it is {reason}" in told
            # The same again within the hour is no news.
            world.origin.commit({FILE: [secret(k=f"good {number}")]})
            await ask(world, f"good {number}")
            world.origin.commit({FILE: Failure(reason, f"it is {reason}")})
            await ask(world, f"{reason} again")
            assert len(notes(world, reason)) == 1


# --- all that failed, in status


def paths(status: Any) -> list[str]:
    return [each["path"] for each in status.get("failedFiles", ())]


async def test_all_files_and_objects_that_failed_are_in_status_and_gone_once_they_are_mended(
    world: World, autojump_clock: MockClock
) -> None:
    files: dict[str, Any] = {
        "a.yaml": [secret("a", k="1"), {"apiVersion": "v1", "kind": "Nothing", "metadata": {"name": "x"}}],
        "b.yaml": Failure("MacMismatch", "b.yaml was changed"),
        "c.yaml": Failure("KeyMissing", "no key opens c.yaml"),
        "d.yaml": [{"apiVersion": "v1"}],
    }
    world.origin.commit(files)
    world.add(source={"repository": {"url": URL}, "files": ["*.yaml"], "exclude": [FILE]})
    async with miwen(world):
        status = world.status()
        failed = {each["path"]: (each["reason"], each["message"]) for each in status["failedFiles"]}
        assert failed["b.yaml"][0] == "MacMismatch"
        assert failed["b.yaml"][1].startswith("b.yaml was changed. ")
        assert failed["c.yaml"][0] == "KeyMissing"
        assert failed["c.yaml"][1].startswith("no key opens c.yaml. ")
        assert failed["d.yaml"][0] == "NotAKubernetesObject"
        assert [each["name"] for each in status["failedObjects"]] == ["x"]
        assert "moreFailedFiles" not in status
        world.origin.commit({"b.yaml": [secret("b", k="1")], "c.yaml": [secret("c", k="1")]})
        await look()
        assert paths(world.status()) == ["d.yaml"]
        world.origin.commit({"a.yaml": [secret("a", k="1")], "d.yaml": [secret("d", k="1")]})
        await look()
        assert world.reason() == "Synced"
        assert not {"failedFiles", "failedObjects"} & set(world.status())


async def test_beyond_the_bound_it_is_reported_how_many_more_failed(world: World, autojump_clock: MockClock) -> None:
    broken = Failure("MacMismatch", "x" * 900)
    nothing = [{"apiVersion": "v1", "kind": "Nothing", "metadata": {"name": f"x{number:02}"}} for number in range(33)]
    files: dict[str, Any] = {f"f{number:02}.yaml": broken for number in range(27)}
    world.origin.commit({**files, "objects.yaml": nothing})
    world.add(source={"repository": {"url": URL}, "files": ["*.yaml"], "exclude": [FILE]})
    async with miwen(world):
        status = world.status()
        assert paths(status) == [f"f{number:02}.yaml" for number in range(20)]
        assert (status["moreFailedFiles"], len(status["failedObjects"]), status["moreFailedObjects"]) == (7, 20, 13)
        assert {len(each["message"]) for each in status["failedFiles"]} <= {499, 500}
        written = world.versions()
        await look()
        await look()
        assert world.versions() == written
