"""Those who follow one source with the same credentials. A move costs one comparison of revisions for all of them, and
wakes those whose files it changed.

    settled       its files are deployed as they are in `base`, the newest revision that is dealt with here; or in a
                  newer one, which it found by itself (a stray). Only a move that concerns its files wakes it
    not settled   it failed, is under way, or its files are reached in a way that a comparison does not show. Every
                  move wakes it

Where one of them knows the newest revision lately enough, the others need not ask: their credentials are the same,
and what moves later is heard. A question that fails is nobody's answer: then each asks, and reports.

Each member has the repository open for itself. One of them, in whose task that happens, leads: it listens for moves,
asks where the revisions differ, and asks the host when a webhook says that the repository moved. When it leaves, or is
refused a watch, the next one leads. What it could not finish is state of the source and not of the leader, so nothing
is lost by that.

Where the difference can't be had (an older Krapao, a revision that is no longer there, no answer in time), all members
are woken and look for themselves, as they do where a webhook's question is not answered.

A revision is content: a settled member that is dealt with `base` needs neither a listing nor a rendering at its next
tick, however many moves there were, as long as none concerned it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import attrs
import structlog
import trio

from jiemi.core.api.source import RepositoryRef
from jiemi.core.decisions.interests import Interest, Interests
from jiemi.core.decisions.pushes import may_concern
from jiemi.core.decisions.schedule import watch_retry_seconds
from jiemi.core.errors import JiemiError
from jiemi.core.names import NamespacedName
from jiemi.core.trace_context import TraceContext
from jiemi.rpc.contract import Changes, Head, Repository
from jiemi.rpc.source import Source
from jiemi.tracing.current import current, in_trace, new_trace
from jiemi.tracing.spans import Tracer

CHANGES_PATIENCE_SECONDS = 10.0
"""How long everybody waits to learn whom a move concerns, a fetch included. Then all look for themselves."""

PUSH_PATIENCE_SECONDS = 5.0
"""How long the one question for all may take after a webhook. It waits in the leader's queue at Krapao; then each asks
in its own."""

KNOWN_SECONDS = 600.0
"""How old what Krapao knows may be, where it was lost and is back. One that was restarted knows nothing and asks."""

_log = structlog.get_logger("jiemi.miwen.state")


@attrs.frozen(eq=False)
class Member:
    """One Decryptor that follows the source.

    Attributes:
        key: the Decryptor's.
        on_moved: called when a move concerns it. Must not block.
        on_push: called when a webhook says that the repository moved, and the host could not be asked for all. Must not
            block.
    """

    key: NamespacedName
    on_moved: Callable[[Head], None]
    on_push: Callable[[], None]


@attrs.frozen
class Mark:
    """When a question began, in seconds of trio's clock, and how much had been heard by then."""

    heard: int
    at: float


class _UnfitError(Exception):
    """This member's repository is refused what the source needs: another one is to lead."""


class FollowedSource:
    """See the module. Made and kept by `jiemi.miwen.state.followed_sources`."""

    def __init__(self, source: Source, tracer: Tracer | None = None) -> None:
        self.source = source
        self._tracer = tracer
        self._members: dict[NamespacedName, Member] = {}
        self._interests = Interests()
        self._settled: set[NamespacedName] = set()
        self._unsettled: set[NamespacedName] = set()
        self._strays: dict[NamespacedName, str] = {}
        self._resting: dict[str, set[NamespacedName]] = {}
        self._base: str | None = None
        self._newest: tuple[Head, TraceContext | None] | None = None
        self._heard = 0
        self._answer: tuple[Head, float] | None = None
        self._asking: trio.Event | None = None
        self._pushes = self._pushes_answered = 0
        self._pushed_by: TraceContext | None = None
        self._news = trio.Event()
        self._turn = trio.Lock()

    # --- members

    @property
    def is_empty(self) -> bool:
        """Whether it has no member."""
        return not self._members

    def join(self, member: Member) -> None:
        """Someone follows the source too, and is not settled."""
        self._members[member.key] = member
        self._unsettle(member.key)

    def leave(self, member: Member) -> None:
        """Someone follows it no longer."""
        if self._members.get(member.key) is member:
            del self._members[member.key]
            self._unsettle(member.key)
            self._unsettled.discard(member.key)
            self._rest(member.key, rests=False)
            self._interests.remove(member.key)

    async def lead_in_turn(self, repository: Repository, random: Callable[[], float]) -> None:
        """Wait until it is a member's turn to lead, and lead, until cancelled. The turn comes when all that came before
        have left, so the wait has no deadline.

        Args:
            repository: the source, as the member has it open.
            random: gives a number in [0, 1).
        """
        while True:
            try:
                async with self._turn, trio.open_nursery() as nursery:
                    nursery.start_soon(self._listen, repository, random)
                    nursery.start_soon(self._answer_pushes, repository)
                    nursery.start_soon(self._follow_moves, repository)
            except* _UnfitError:
                await trio.sleep(watch_retry_seconds(1, random=random()))

    # --- ticks

    def begin_tick(self, key: NamespacedName) -> str | None:
        """A member's tick begins; until it ends, the member is not settled. Returns the revision whose files it has
        deployed, where that is known."""
        dealt_with = self._strays.get(key, self._base) if key in self._settled else None
        if key in self._members:
            self._unsettle(key)
        return dealt_with

    def end_tick(self, key: NamespacedName, revision: str | None, interest: Interest | None = None) -> None:
        """A member's tick has ended.

        Args:
            revision: the one whose files it has deployed; None where it has not, or that is not certain.
            interest: which files these are; given with the revision.
        """
        if key not in self._members:
            return
        self._rest(key, rests=revision is not None)
        if revision is None or interest is None:
            self._interests.remove(key)
            return
        self._interests.put(key, interest)
        self._settled.add(key)
        self._unsettled.discard(key)
        if self._base is None:
            self._base = revision
        if revision != self._base:
            self._strays[key] = revision

    async def head(self, repository: Repository, *, max_age_seconds: float) -> Head:
        """The newest revision, as `Repository.head` gives it; without a question where the host was asked for any
        member so lately.

        Args:
            repository: the source, as the member has it open.

        Raises:
            JiemiError: as that.
        """
        known = self.known(max_age_seconds, trio.current_time())
        if known is None and max_age_seconds > 0 and self._asking is not None:
            # Many tick at once after a start. Once only: where it fails, each asks. It ends as any call of Krapao does.
            await self._asking.wait()
            known = self.known(max_age_seconds, trio.current_time())
        if known is not None:
            return known
        # It is not said how old an answer is, so one that is to do for others is to be new.
        return await self._ask(repository, max_age_seconds if len(self._members) < 2 else 0)

    async def _ask(self, repository: Repository, max_age_seconds: float) -> Head:
        mark = self.mark(trio.current_time())
        asking = trio.Event()
        if self._asking is None:
            self._asking = asking
        try:
            head = await repository.head(max_age_seconds=max_age_seconds)
        except JiemiError:
            self._answer = None
            raise
        finally:
            if self._asking is asking:
                self._asking = None
            asking.set()
        self.saw(head, mark, is_new=max_age_seconds == 0)
        return head

    def known(self, max_age_seconds: float, now: float) -> Head | None:
        """The newest revision, where the host was asked for it so lately; 0: never."""
        if self._answer is None:
            return None
        head, at = self._answer
        if max_age_seconds <= 0 or now - at > max_age_seconds:
            return None
        return self._newest[0] if self._newest is not None else head

    def mark(self, now: float) -> Mark:
        """A question begins; what has been heard so far, for `saw`."""
        return Mark(self._heard, now)

    def saw(self, head: Head, mark: Mark, *, is_new: bool) -> None:
        """A question was answered: this is the newest revision, as far as nothing was heard meanwhile.

        Args:
            mark: what `mark` gave before the question.
            is_new: whether the host was asked after that.
        """
        if mark.heard == self._heard and not (self._newest is None and head.revision == self._base):
            self._hear(head)
        newest = self._newest[0].revision if self._newest is not None else self._base
        # Where something else was heard meanwhile, or an older answer was taken for news, nobody knows which is newer.
        self._answer = (head, mark.at) if is_new and head.revision == newest else None

    def _unsettle(self, key: NamespacedName) -> None:
        self._settled.discard(key)
        self._strays.pop(key, None)
        self._unsettled.add(key)

    def _rest(self, key: NamespacedName, *, rests: bool) -> None:
        if rests:
            self._resting.setdefault(key[0], set()).add(key)
        elif key in self._resting.get(key[0], ()):
            self._resting[key[0]].discard(key)
            if not self._resting[key[0]]:
                del self._resting[key[0]]

    # --- webhooks

    def may_rest(self, namespace: str | None, refs: Collection[str]) -> bool:
        """Whether a webhook may concern members that need not be woken for it: one question answers for all of them.

        Args:
            namespace: the one whose Decryptors are meant; None: all.
            refs: full names of the refs that moved; empty: any may have.
        """
        rests = bool(self._resting) if namespace is None else namespace in self._resting
        return rests and may_concern(_ref(self.source), refs)

    def push(self) -> None:
        """A webhook says that the repository moved: the host is asked, as a part of the webhook's trace."""
        self._pushes += 1
        self._pushed_by = current()
        self._news.set()

    async def _answer_pushes(self, repository: Repository) -> None:
        while True:
            asked = self._pushes
            if asked != self._pushes_answered:
                shown = {"repository": self.source.url}
                with new_trace(self._tracer, "push", shown=shown, parent=self._pushed_by):
                    is_answered = await self._ask_host(repository)
                    self._pushes_answered = asked
                    if not is_answered:
                        self._leave_to_each()
            else:
                await self._wait()

    def _leave_to_each(self) -> None:
        _log.info("push_left_to_each", decryptors=len(self._members))
        for key in [key for keys in self._resting.values() for key in keys]:
            self._members[key].on_push()

    async def _ask_host(self, repository: Repository) -> bool:
        """Whether the host said which revision is the newest."""
        with trio.move_on_after(PUSH_PATIENCE_SECONDS):
            try:
                await self._ask(repository, 0)
            except JiemiError:
                return False  # whoever asks next reports why
            except Exception:  # noqa: BLE001 - the boundary of this source: its fault must not end all that follow it
                _log.exception("push_crashed", repository=self.source.url)
                return False
            return True
        return False

    # --- moves

    async def _listen(self, repository: Repository, random: Callable[[], float]) -> None:
        failures = 0
        while True:
            began = trio.current_time()
            try:
                with in_trace(None):
                    if failures:
                        # A Krapao that was restarted compares only what the host has named to it since.
                        await self._ask(repository, KNOWN_SECONDS)
                    await repository.watch(self._hear)
            except JiemiError as error:
                # The loops meet the same fault at their next ticks and report it; listening only makes news quicker.
                if error.failure.reason != "KrapaoUnavailable":
                    raise _UnfitError from error  # it may concern this member alone
            except Exception:  # noqa: BLE001 - the boundary of this source
                _log.exception("listening_crashed", repository=self.source.url)
            self._answer = None
            failures = failures + 1 if trio.current_time() - began < 60 else 1
            await trio.sleep(watch_retry_seconds(failures, random=random()))

    def _hear(self, head: Head) -> None:
        """The newest revision is this one."""
        self._heard += 1
        if self._newest is None or self._newest[0].revision != head.revision:
            self._newest = head, current()
            self._news.set()

    async def _wait(self) -> None:
        """Until there is something new. Without a deadline: it may be long in coming."""
        if self._news.is_set():
            self._news = trio.Event()
        await self._news.wait()

    async def _follow_moves(self, repository: Repository) -> None:
        while True:
            if self._newest is None or self._newest[0].revision == self._base:
                await self._wait()
                continue
            head, trace = self._newest
            if self._base is None or not self._settled:
                woken = self._move(head, None)
            else:
                with new_trace(self._tracer, "move", shown={"repository": self.source.url}, parent=trace):
                    changes = await self._changes(repository, self._base, head.revision)
                    woken = self._move(head, changes)
            with in_trace(trace):  # of whoever saw it move
                for member in woken:
                    member.on_moved(head)

    async def _changes(self, repository: Repository, before: str, after: str) -> Changes | None:
        """Where the revisions differ; None where that is not to be known."""
        with trio.move_on_after(CHANGES_PATIENCE_SECONDS):
            try:
                return await repository.changes(before, after)
            except JiemiError as error:
                _log.debug("not_compared", reason=error.failure.reason)
            except Exception:  # noqa: BLE001 - the boundary of this source
                _log.exception("comparing_crashed", repository=self.source.url)
        return None

    def _move(self, head: Head, changes: Changes | None) -> list[Member]:
        """The revision that is dealt with here is another from now on. Returns those who are to be notified.

        Nothing may come between what is decided here and what follows from it, so nothing is awaited.
        """
        before, self._base = self._base, head.revision
        strays, self._strays = self._strays, {}
        if changes is None:
            concerned = {key for key in self._settled if strays.get(key, before) != head.revision}
        else:
            # What changed since a stray's own revision is not known; and one that is at the new one has dealt with it.
            concerned = (self._concerned(changes) & self._settled) - strays.keys()
            concerned |= {key for key, revision in strays.items() if revision != head.revision}
        self._settled -= concerned
        self._unsettled |= concerned
        woken = [self._members[key] for key in self._unsettled]
        if changes is not None or self._settled or concerned:
            _log.debug(
                "source_moved",
                revision=head.revision,
                compared=changes is not None,
                woken=len(woken),
                others=len(self._settled),
            )
        return woken

    def _concerned(self, changes: Changes) -> set[NamespacedName]:
        """Those whose files may be among the changes."""
        try:
            return self._interests.concerned(changes.paths, changes.folders)
        except Exception:  # noqa: BLE001 - the boundary of this source: in doubt everybody looks
            _log.exception("comparing_crashed", repository=self.source.url)
            return set(self._settled)


def _ref(source: Source) -> RepositoryRef:
    semver = None if source.tags is None else source.tags.versions
    return RepositoryRef(branch=source.branch, tag=source.tag, commit=source.commit, name=source.name, semver=semver)
