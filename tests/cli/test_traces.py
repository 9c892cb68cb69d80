"""The flags that are about traces: what they refuse, and that nothing of a URL is quoted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from jiemi.cli.errors import CommandError
from jiemi.cli.krapao_flags import KrapaoFlags
from jiemi.cli.traces import exporter_of
from jiemi.krapao.metrics import KrapaoMetrics

NOTHING = KrapaoFlags(state_dir=Path("/a"))


def refusal(**flags: Any) -> str:
    with pytest.raises(CommandError) as caught:
        exporter_of(attrs.evolve(NOTHING, **flags), KrapaoMetrics(), service="krapao")
    return str(caught.value)


def test_a_url_that_is_refused_is_not_quoted_and_what_to_give_is_said() -> None:
    for url in ("https://me:canary@collector.example", "http://canary.example", "canary", "https://x?canary=1"):
        said = refusal(traces_endpoint=url)
        assert said.startswith("--traces-endpoint: ")
        assert "https://collector.example:4318" in said
        assert "canary" not in said


def test_a_bundle_that_is_none_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "ca.pem"
    said = refusal(traces_endpoint="https://collector.example", traces_ca_bundle=missing)
    assert said == f"--traces-ca-bundle {missing} holds no certificate (PEM) that can be read"


def test_flags_of_no_use_are_refused() -> None:
    assert "no use without --traces-endpoint" in refusal(insecure_plain_traces=True)
    assert "no use without --traces-endpoint" in refusal(traces_ca_bundle=Path("/x"))


def test_without_the_flag_there_is_no_exporter_and_no_metric() -> None:
    metrics = KrapaoMetrics()
    assert exporter_of(NOTHING, metrics, service="krapao") is None
    assert "jiemi_trace_spans_total" not in {each.name for each in metrics.registry.collect()}
    assert metrics.spans() == {}


def test_with_the_flag_what_becomes_of_spans_is_counted_from_0() -> None:
    metrics = KrapaoMetrics()
    flags = attrs.evolve(NOTHING, traces_endpoint="http://127.0.0.1:4318")

    exporter_of(flags, metrics, service="krapao")
    assert [metrics.value("jiemi_trace_spans_total", outcome=each) for each in metrics.spans()] == [0.0] * 4
