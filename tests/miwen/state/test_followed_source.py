"""Those who follow one source: whatever the order of ticks, moves and news, all end with what git says."""

from __future__ import annotations

import random
from typing import cast

import attrs
import pytest
import trio

from jiemi.core.decisions.interests import Interest
from jiemi.core.errors import JiemiError
from jiemi.core.names import NamespacedName
from jiemi.core.sensitive import SensitiveText
from jiemi.core.webhooks.repository import repository_key
from jiemi.miwen.state.followed_source import FollowedSource, Mark, Member
from jiemi.miwen.state.followed_sources import FollowedSources
from jiemi.rpc.contract import Changes, Head, Repository
from jiemi.rpc.source import GitCredentials, Source

SOURCE = Source("https://git.example/app.git")
PATHS = ("a", "b", "c")


@attrs.define
class _Follower:
    """A loop of a Decryptor, as far as it matters here (jiemi/miwen/controller/loop.py)."""

    source: FollowedSource
    key: NamespacedName
    path: str
    deployed: int | None = None
    woken: bool = True
    ticking: bool = False
    head: str | None = None
    news: str | None = None
    mark: Mark = Mark(0, 0)
    listed: list[str] = attrs.field(factory=list)
    dealt_with: str | None = None

    def join(self) -> None:
        self.source.join(Member(self.key, self.on_moved, lambda: None))

    def on_moved(self, head: Head) -> None:
        self.news = head.revision
        if not self.ticking and head.revision != self.head:
            self.woken = True

    def begin(self, now: float = 0) -> None:
        self.woken, self.ticking, self.news, self.head = False, True, None, None
        self.dealt_with = self.source.begin_tick(self.key)
        self.mark = self.source.mark(now)

    def find_head(self, revision: str, *, is_new: bool = False) -> None:
        self.head = revision
        self.source.saw(Head(revision), self.mark, is_new=is_new)

    def end(self, contents: dict[str, dict[str, int]], *, settles: bool) -> None:
        assert self.head is not None
        if self.dealt_with == self.head:
            assert self.deployed == contents[self.head][self.path], "it took a listing for known that is not"
        else:
            self.listed.append(self.head)
        self.deployed = contents[self.head][self.path]
        self.ticking = False
        self.source.end_tick(self.key, self.head if settles else None, Interest((self.path,)) if settles else None)
        if self.news not in (None, self.head):
            self.woken = True


class _World:
    """A repository whose content is numbers by path, and those who follow it."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.source = FollowedSource(SOURCE)
        self.contents = {"r0": dict.fromkeys(PATHS, 0)}
        self.head, self.heard = "r0", "r0"
        self.now = 0
        self.heads = ["r0"]
        self.followers = [_Follower(self.source, ("ns", f"{path}{number}"), path) for path in PATHS for number in "12"]
        for each in self.followers:
            each.join()

    def push(self) -> None:
        if self.dice.random() < 0.3:
            self.head = self.dice.choice(sorted(self.contents))
            return
        content = {path: self.dice.randrange(3) for path in PATHS}
        self.head = f"r{len(self.contents)}"
        self.contents[self.head] = content

    def hear(self) -> None:
        """Krapao's watch."""
        self.heard = self.head
        self.source._hear(Head(self.head))

    def compare(self) -> None:
        """What the leader does between two answers; None stands for an answer that was not to be had."""
        newest, base = self.source._newest, self.source._base
        if newest is None or newest[0].revision == base:
            return
        after = newest[0].revision
        changes = None
        if base is not None and self.dice.random() < 0.8:
            old, new = self.contents[base], self.contents[after]
            changes = Changes(tuple(path for path in PATHS if old[path] != new[path]))
        for member in self.source._move(Head(after), changes):
            member.on_moved(Head(after))

    def step(self) -> None:
        each = self.dice.choice(self.followers)
        what = self.dice.random()
        self.now += 1
        self.heads.append(self.head)
        if what < 0.15:
            self.push()
        elif what < 0.3:
            self.hear()
        elif what < 0.5:
            self.compare()
        elif not each.ticking:
            each.begin(self.now)
        elif each.head is None:
            self.find_head(each)
        else:
            each.end(self.contents, settles=self.dice.random() < 0.8)

    def find_head(self, each: _Follower) -> None:
        """Krapao answers what it knows, and its watchers were notified of; or it asks the host. Or nobody is asked."""
        max_age = self.dice.choice([0, 5, 20])
        known = self.source.known(max_age, self.now)
        if known is not None:
            assert known.revision in self.heads[max(0, self.now - max_age) :], "it is older than it may be"
            each.head = known.revision
            return
        asks_host = max_age == 0 or self.dice.random() < 0.5
        each.find_head(self.head if asks_host else self.heard, is_new=asks_host)

    def come_to_rest(self) -> None:
        for each in self.followers:
            if each.ticking:
                each.find_head(each.head or self.head)
                each.end(self.contents, settles=True)
        self.hear()
        for _ in range(20):
            self.compare()
            for each in self.followers:
                if each.woken:
                    each.begin()
                    each.find_head(self.head)
                    each.end(self.contents, settles=True)


@pytest.mark.parametrize("seed", range(300))
def test_in_any_order_everybody_ends_with_what_git_says(seed: int) -> None:
    world = _World(random.Random(seed))
    for _ in range(120):
        world.step()
    world.come_to_rest()
    assert {each.key: each.deployed for each in world.followers} == {
        each.key: world.contents[world.head][each.path] for each in world.followers
    }
    for each in world.followers:
        if each.key in world.source._unsettled:  # it failed, and tries again
            each.begin()
            each.find_head(world.head)
            each.end(world.contents, settles=True)
    # Now all of them are settled: a move asks those whom it concerns, and nobody else lists anything.
    assert not world.source._unsettled
    for each in world.followers:
        each.listed.clear()
    world.head = "last"
    world.contents["last"] = {**world.contents[world.source._base or ""], "a": 99}
    world.hear()
    for member in world.source._move(Head("last"), Changes(("a",))):
        member.on_moved(Head("last"))
    assert {each.path for each in world.followers if each.woken} == {"a"}
    for each in world.followers:  # its own interval, for those who were not woken
        each.begin()
        each.find_head("last")
        each.end(world.contents, settles=True)
    assert {each.path for each in world.followers if each.listed} == {"a"}


def test_a_webhook_asks_once_for_those_that_rest_in_its_namespace() -> None:
    sources, secret = FollowedSources(), GitCredentials()
    key = repository_key(SOURCE.url)
    assert key is not None
    repositories = frozenset({key})
    with sources.joined(SOURCE, secret, _member("team", "x")) as followed:
        assert sources.to_ask(repositories, None, ()) == frozenset()
        followed.end_tick(("team", "x"), "r0", Interest(("a",)))
        assert sources.to_ask(repositories, None, ()) == {followed}
        assert sources.to_ask(repositories, "team", ()) == {followed}
        assert sources.to_ask(repositories, "other", ()) == frozenset()
        assert sources.to_ask(repositories, None, ("refs/tags/v1",)) == frozenset()
        assert sources.to_ask((), None, ()) == frozenset()
        followed.begin_tick(("team", "x"))
        assert sources.to_ask(repositories, None, ()) == {followed}  # a tick that is under way may miss it
        followed.end_tick(("team", "x"), None)
        assert sources.to_ask(repositories, None, ()) == frozenset()
    assert len(sources) == 0
    assert sources._by_repository == {}


def test_those_with_other_credentials_or_another_ref_are_apart() -> None:
    sources = FollowedSources()
    others = (GitCredentials(), GitCredentials(token=SensitiveText("t")))
    with (
        sources.joined(SOURCE, others[0], _member("team", "x")) as one,
        sources.joined(SOURCE, others[1], _member("team", "y")) as two,
        sources.joined(attrs.evolve(SOURCE, branch="b"), others[0], _member("team", "z")) as three,
        sources.joined(SOURCE, GitCredentials(token=SensitiveText("t")), _member("other", "y")) as again,
    ):
        assert len({id(each) for each in (one, two, three)}) == 3
        assert again is two


class _Asked:
    """A repository that answers, and counts."""

    def __init__(self) -> None:
        self.ages: list[float] = []
        self.revision = "r0"
        self.failure: JiemiError | None = None

    async def head(self, *, max_age_seconds: float) -> Head:
        self.ages.append(max_age_seconds)
        await trio.sleep(1)
        if self.failure is not None:
            raise self.failure
        return Head(self.revision)


async def test_one_question_does_for_all_whom_an_answer_of_that_age_satisfies(
    autojump_clock: trio.testing.MockClock,
) -> None:
    followed, asked = FollowedSource(SOURCE), cast(Repository, repository := _Asked())
    followed.join(_member("team", "x"))
    assert (await followed.head(asked, max_age_seconds=90)).revision == "r0"
    assert (await followed.head(asked, max_age_seconds=90)).revision == "r0"
    assert repository.ages == [90, 90]  # nobody else needs it, and Krapao may know
    followed.join(_member("team", "y"))
    for _ in range(20):
        assert (await followed.head(asked, max_age_seconds=90)).revision == "r0"
    assert repository.ages == [90, 90, 0]
    repository.revision = "r1"
    await followed.head(asked, max_age_seconds=0)
    assert (await followed.head(asked, max_age_seconds=90)).revision == "r1"
    followed._hear(Head("r2"))
    assert (await followed.head(asked, max_age_seconds=90)).revision == "r2"
    assert repository.ages == [90, 90, 0, 0]
    await trio.sleep(80)
    assert (await followed.head(asked, max_age_seconds=60)).revision == "r1"  # the host went back
    assert repository.ages == [90, 90, 0, 0, 0]


async def test_after_a_question_that_failed_each_asks(autojump_clock: trio.testing.MockClock) -> None:
    followed, asked = FollowedSource(SOURCE), cast(Repository, repository := _Asked())
    for name in "xyz":
        followed.join(_member("team", name))
    await followed.head(asked, max_age_seconds=90)
    repository.failure = JiemiError("HostUnreachable", "it is down")
    for age in (0, 90, 90):
        with pytest.raises(JiemiError):
            await followed.head(asked, max_age_seconds=age)
    repository.failure = None
    for _ in range(3):
        await followed.head(asked, max_age_seconds=90)
    assert repository.ages == [0, 0, 0, 0, 0]


async def test_those_who_need_an_answer_at_once_share_one_question_and_after_a_failure_ask_together(
    autojump_clock: trio.testing.MockClock,
) -> None:
    followed, asked = FollowedSource(SOURCE), cast(Repository, repository := _Asked())
    for name in range(50):
        followed.join(_member("team", str(name)))

    async def ask(found: list[str]) -> None:
        try:
            found.append((await followed.head(asked, max_age_seconds=90)).revision)
        except JiemiError as error:
            found.append(error.failure.reason)

    async def all_ask() -> list[str]:
        found: list[str] = []
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(ask, found)
        return found

    assert await all_ask() == ["r0"] * 50
    assert len(repository.ages) == 1
    await trio.sleep(100)
    repository.failure = JiemiError("HostUnreachable", "it is down")
    began = trio.current_time()
    assert await all_ask() == ["HostUnreachable"] * 50
    assert len(repository.ages) == 51
    assert trio.current_time() - began == pytest.approx(2)
    # The one that asks for the others is cancelled.
    repository.failure = None
    async with trio.open_nursery() as nursery:
        first = trio.CancelScope()

        async def ask_first() -> None:
            with first:
                await followed.head(asked, max_age_seconds=90)

        nursery.start_soon(ask_first)
        await trio.testing.wait_all_tasks_blocked(0.01)
        found: list[str] = []
        nursery.start_soon(ask, found)
        await trio.testing.wait_all_tasks_blocked(0.01)
        first.cancel()
    assert found == ["r0"]
    assert followed._asking is None


def _member(*key: str) -> Member:
    return Member((key[0], key[1]), lambda _: None, lambda: None)
