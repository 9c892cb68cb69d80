"""The images of two builds are the same, byte by byte."""

from __future__ import annotations

import pytest
from support.pods.image_content import Entry, ImageContent, Layer, differences, read_image

from jiemi.controlplane.node.images import NAMES, Images


@pytest.mark.parametrize("name", NAMES)
def test_two_builds_give_the_same_image(name: str, builds: tuple[Images, Images]) -> None:
    one, two = (read_image(getattr(build, name)) for build in builds)
    assert len(list(one.entries())) > 1_000
    found = differences(one, two)
    assert not found, "\n".join(found[:20])
    # Thus the identities of the layers are equal too.
    assert one.configuration["rootfs"] == two.configuration["rootfs"]


def test_what_differs_is_named() -> None:
    entry = Entry("0", 0o644, (0, 0), 1, 0, "", "a", {})
    one = ImageContent({"created": "then"}, [Layer(b"1", {"same": entry, "file": entry})])
    two = ImageContent({"created": "now"}, [Layer(b"2", {"same": entry, "more": entry})])
    assert [each.split(":")[:2] for each in differences(one, two)] == [
        ["configuration created"],
        ["layer 0", " file"],
        ["layer 0", " more"],
    ]
    assert differences(one, one) == []
