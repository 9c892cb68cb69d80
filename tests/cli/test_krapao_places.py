"""What `--krapao` says: addresses, or the Service whose Pods are asked."""

from __future__ import annotations

import pytest

from jiemi.cli.errors import CommandError
from jiemi.cli.krapao_places import KrapaoPlaces, places_of
from jiemi.rpc.address import TcpAddress, UnixAddress
from jiemi.rpc.krapaos import Peer


def test_each_address_is_a_krapao_whose_name_is_the_address() -> None:
    assert places_of(["unix:/run/a.sock"]).peers == (Peer("unix:/run/a.sock", UnixAddress("/run/a.sock")),)
    found = places_of(["repository-0.pods", "tcp:repository-1.pods:1", "unix:/run/a.sock"])
    assert found.peers == (
        Peer("tcp:repository-0.pods:50208", TcpAddress("repository-0.pods")),
        Peer("tcp:repository-1.pods:1", TcpAddress("repository-1.pods", 1)),
        Peer("unix:/run/a.sock", UnixAddress("/run/a.sock")),
    )
    assert found.over_tcp == "tcp:repository-0.pods:50208"
    assert places_of(["unix:/run/a.sock"]).over_tcp is None


def test_a_service_says_which_pods_are_asked() -> None:
    found = places_of(["service:jiemi/repository-svc"])
    assert found == KrapaoPlaces(None, ("jiemi", "repository-svc"))
    assert found.over_tcp == "service:jiemi/repository-svc"


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["tcp:*:1"], "an address to listen on"),
        (["tcp:host:0"], "an address to listen on"),
        (["unix:"], "needs the path"),
        (["a", "tcp:a:50208"], "tcp:a:50208 is given twice"),
        (["service:jiemi/a", "b"], "give service:jiemi/a alone, or addresses"),
        (["service:jiemi/a", "service:jiemi/b"], "give service:jiemi/a alone"),
        (
            ["service:repository-svc"],
            "outside of a Pod Miwen has no namespace of its own; write NAMESPACE/repository-svc",
        ),
        (["service:jiemi/No Name"], "nothing can have that name"),
        (["service:"], "outside of a Pod"),
        (["service:jiemi/"], "nothing can have that name"),
    ],
)
def test_what_can_be_nothing_is_refused(texts: list[str], message: str) -> None:
    with pytest.raises(CommandError, match="--krapao") as caught:
        places_of(texts)
    assert message in str(caught.value)
