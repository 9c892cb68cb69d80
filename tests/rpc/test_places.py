"""Who gets a place and who makes way, in the lobby and in the hall."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from jiemi.rpc.places import Guest, Room, hall, lobby

_clock = itertools.count()


def guest(host: str, *, local: bool = False, owns: bool = False, left: list[Guest] | None = None) -> Guest:
    def leave(_: str) -> None:
        if left is not None:
            left.append(made)

    made = Guest(host, local, next(_clock), leave, lambda: owns)
    return made


def filled(room: Room, guests: list[Guest]) -> Room:
    assert all(room.admit(each) for each in guests)
    return room


def test_a_crowd_in_the_lobby_drives_out_its_own_and_never_the_one_of_another_host() -> None:
    left: list[Guest] = []
    room = lobby(8, 2)
    miwen = guest("miwen", left=left)
    filled(room, [miwen, *(guest("crowd", left=left) for _ in range(1_000))])
    assert miwen not in left
    assert len(left) == 1_000 - 5
    # And it gets in where the crowd was there first.
    room = filled(lobby(8, 2), [guest("crowd", left=left) for _ in range(100)])
    assert room.admit(miwen)
    filled(room, [guest("crowd", left=left) for _ in range(100)])
    assert miwen not in left


def test_nobody_from_outside_takes_the_places_that_are_kept_for_this_machine() -> None:
    left: list[Guest] = []
    for room in (lobby(8, 2), hall(8, 2)):
        for number in range(100):
            room.admit(guest(f"crowd {number % 7}", owns=True, left=left))
        assert len(room) == 6
        left.clear()
        assert room.admit(guest("probe", local=True))
        assert room.admit(guest("probe", local=True))
        assert left == []


def test_in_the_hall_the_idlest_that_owns_nothing_makes_way() -> None:
    left: list[Guest] = []
    owner = guest("a", owns=True, left=left)
    idle, idle_later = guest("b", left=left), guest("c", left=left)
    room = filled(hall(3, 0), [owner, idle, idle_later])
    idle.idle_since = next(_clock)  # it has asked something
    assert room.admit(guest("d", owns=True))
    assert left == [idle_later]


def test_where_all_own_something_the_host_with_the_most_sessions_gives_one_up_and_equals_keep_theirs() -> None:
    left: list[Guest] = []
    room = filled(
        hall(4, 0), [guest("miwen", owns=True, left=left), *(guest("crowd", owns=True, left=left) for _ in "123")]
    )
    assert room.admit(guest("other", owns=True, left=left))
    assert [each.host for each in left] == ["crowd"]
    assert not room.admit(guest("crowd", owns=True))
    assert room.admit(guest("third", owns=True, left=left))
    assert [each.host for each in left] == ["crowd", "crowd"]
    assert not room.admit(guest("fourth", owns=True))


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans(), st.booleans()), max_size=60), st.booleans())
def test_no_room_ever_holds_more_than_its_places(arrivals: list[tuple[str, bool, bool]], in_hall: bool) -> None:
    room = (hall if in_hall else lobby)(6, 2)
    left: list[Guest] = []
    admitted = 0
    for host, local, owns in arrivals:
        admitted += room.admit(guest(host, local=local, owns=owns, left=left))
        assert len(room) == admitted - len(left) <= 6
