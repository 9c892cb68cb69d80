"""Miwen makes the Secrets with certificates, renews them, and leaves those of others alone."""

from __future__ import annotations

import base64
import datetime
from pathlib import Path
from typing import Any

import attrs
import pytest
import structlog
import trio
from cryptography import x509
from fakes.kubernetes import FakeKubernetes
from support.network.tls_folders import TestAuthority
from trio.testing import MockClock

from jiemi.core.errors import JiemiError
from jiemi.miwen.certificates.renewal import Lifetimes
from jiemi.miwen.certificates.secrets import (
    AUTHORITIES_SECRET,
    KRAPAO_SECRET,
    LOOK_SECONDS,
    MANAGED_BY,
    CertificateSecrets,
)
from jiemi.rpc.tls_names import AUTHORITIES, CERTIFICATE, KEY, KRAPAO_NAME, MIWEN_NAME, PARTS

NAMESPACE, MIWEN_SECRET = "jiemi", "miwen-tls"
NAMES = (AUTHORITIES_SECRET, KRAPAO_SECRET, MIWEN_SECRET)
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
HOUR = 3_600.0
DAY = 24 * HOUR


@attrs.define
class Setting:
    """A cluster with Jiemi's namespace, and a time that runs with trio's clock."""

    kubernetes: FakeKubernetes

    def now(self) -> datetime.datetime:
        return START + datetime.timedelta(seconds=trio.current_time() - self.began)

    began: float = 0

    def keeper(self, *, makes: bool = True, look_seconds: float = LOOK_SECONDS) -> CertificateSecrets:
        return CertificateSecrets(
            self.kubernetes,
            NAMESPACE,
            MIWEN_SECRET,
            lifetimes=Lifetimes() if makes else None,
            now=self.now,
            look_seconds=look_seconds,
        )

    def secret(self, name: str) -> dict[str, Any]:
        return self.kubernetes.cluster.objects["v1", "Secret", NAMESPACE, name]

    def part(self, name: str, part: str) -> bytes:
        return base64.b64decode(self.secret(name)["data"][part])

    def put(self, name: str, data: dict[str, bytes], *, labels: dict[str, str] | None = None) -> None:
        encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
        metadata = {"namespace": NAMESPACE, "name": name} | ({"labels": labels} if labels else {})
        self.kubernetes.cluster.put(
            {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded, "type": "kubernetes.io/tls"}
        )

    def delete(self, name: str) -> None:
        self.kubernetes.cluster.delete("Secret", NAMESPACE, name)

    def written(self) -> int:
        snapshot = self.kubernetes.requests.snapshot()
        return snapshot.of("create", "secrets") + snapshot.of("update", "secrets")

    def assert_whole(self) -> None:
        """Each end has a certificate of an authority that the other accepts."""
        for name, other in ((KRAPAO_SECRET, MIWEN_SECRET), (MIWEN_SECRET, KRAPAO_SECRET)):
            certificate = x509.load_pem_x509_certificate(self.part(name, CERTIFICATE))
            assert certificate.not_valid_before_utc <= self.now() < certificate.not_valid_after_utc
            signers = []
            for each in x509.load_pem_x509_certificates(self.part(other, AUTHORITIES)):
                try:
                    certificate.verify_directly_issued_by(each)
                except Exception:  # noqa: BLE001, S112 - then another did
                    continue
                signers.append(each)
            assert len(signers) == 1


@pytest.fixture
def setting() -> Setting:
    kubernetes = FakeKubernetes()
    kubernetes.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    return Setting(kubernetes)


async def test_what_is_missing_is_made_once_and_no_key_is_logged(setting: Setting, autojump_clock: MockClock) -> None:
    setting.began = trio.current_time()
    with structlog.testing.capture_logs() as logs:
        await setting.keeper().renew()
        identity = await setting.keeper().identity()
        await setting.keeper().renew()
    assert setting.written() == 3
    for name in NAMES:
        secret = setting.secret(name)
        assert (secret["type"], secret["metadata"]["labels"]) == ("kubernetes.io/tls", MANAGED_BY)
        assert setting.part(name, KEY).splitlines()[1].decode() not in repr(logs) + repr(identity)
    assert set(setting.secret(KRAPAO_SECRET)["data"]) == set(PARTS), "the authority's key is not among them"
    assert setting.part(AUTHORITIES_SECRET, KEY) not in (setting.part(n, KEY) for n in NAMES[1:])
    assert [line["secret"] for line in logs if line["event"] == "certificates_written"] == list(NAMES)
    setting.assert_whole()


async def test_while_it_runs_everything_is_renewed_in_time_and_it_looks_as_often_as_it_is_asked_to(
    setting: Setting, autojump_clock: MockClock
) -> None:
    setting.began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(setting.keeper(look_seconds=HOUR).keep)
        serials = set()
        for _ in range(45):
            await trio.sleep(DAY)
            setting.assert_whole()
            certificate = x509.load_pem_x509_certificate(setting.part(MIWEN_SECRET, CERTIFICATE))
            assert certificate.not_valid_after_utc - setting.now() > datetime.timedelta(days=8)
            serials.add(certificate.serial_number)
        assert len(serials) == 3, "renewed after 20 days"
        assert setting.written() == 3 + 2 * 2
        assert setting.kubernetes.requests.snapshot().of("get", "secrets") <= 45 * 24 * 3 + 30
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("names", [*((name,) for name in NAMES), NAMES])
async def test_what_somebody_deletes_is_there_again_within_a_minute_though_nobody_connects(
    setting: Setting, autojump_clock: MockClock, names: tuple[str, ...]
) -> None:
    """A Krapao does not start without its Secret, so Miwen can't wait until it connects to one."""
    setting.began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(setting.keeper().keep)
        await trio.sleep(10 * 60 + 1)
        assert setting.kubernetes.requests.snapshot().of("get", "secrets") <= 3 * (10 + 2)
        for name in names:
            setting.delete(name)
        await trio.sleep(61)
        setting.assert_whole()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", ["deleted", "emptied", "garbage", "another's key"])
async def test_what_is_lost_or_damaged_is_made_again(
    setting: Setting, autojump_clock: MockClock, name: str, damage: str
) -> None:
    setting.began = trio.current_time()
    keeper = setting.keeper()
    await keeper.renew()
    data = {part: setting.part(name, part) for part in PARTS}
    if damage == "deleted":
        setting.delete(name)
    elif damage == "emptied":
        setting.put(name, {}, labels=MANAGED_BY)
    elif damage == "garbage":
        setting.put(name, dict.fromkeys(PARTS, b"\xff\0garbage"), labels=MANAGED_BY)
    else:
        other = NAMES[NAMES.index(name) - 1]
        setting.put(name, {**data, KEY: setting.part(other, KEY)}, labels=MANAGED_BY)
    await keeper.renew()
    setting.assert_whole()
    assert (await keeper.identity()).not_after > setting.now()
    written = setting.written()
    await keeper.renew()
    assert setting.written() == written


async def test_miwens_own_is_made_when_it_is_needed(setting: Setting, autojump_clock: MockClock) -> None:
    setting.began = trio.current_time()
    identity = await setting.keeper().identity()
    assert identity.not_after == START + datetime.timedelta(days=30)
    setting.assert_whole()


async def test_miwens_own_is_made_again_when_it_is_needed_and_damaged(
    setting: Setting, autojump_clock: MockClock
) -> None:
    setting.began = trio.current_time()
    await setting.keeper().renew()
    setting.put(MIWEN_SECRET, dict.fromkeys(PARTS, b"garbage"), labels=MANAGED_BY)
    assert (await setting.keeper().identity()).not_after == START + datetime.timedelta(days=30)
    setting.assert_whole()


@pytest.mark.parametrize("name", [KRAPAO_SECRET, MIWEN_SECRET])
async def test_where_somebody_else_makes_them_nothing_is_written(
    setting: Setting, autojump_clock: MockClock, name: str
) -> None:
    setting.began = trio.current_time()
    setting.put(name, {CERTIFICATE: b"x", KEY: b"y", AUTHORITIES: b"z"})
    keeper = setting.keeper()
    with structlog.testing.capture_logs() as logs:
        await keeper.renew()
        await keeper.renew()
    assert setting.written() == 0
    [line] = [line for line in logs if line["event"] == "certificates_of_others"]
    assert line["secrets"] == [f"{NAMESPACE}/{name}"]


async def test_what_cert_manager_has_taken_over_is_no_longer_written(
    setting: Setting, autojump_clock: MockClock
) -> None:
    setting.began = trio.current_time()
    keeper = setting.keeper()
    await keeper.renew()
    made = setting.written()
    # It applies its own fields beside those that are there.
    setting.secret(KRAPAO_SECRET)["metadata"]["labels"]["controller.cert-manager.io/fao"] = "true"
    with structlog.testing.capture_logs() as logs:
        await trio.sleep(25 * DAY)
        await keeper.renew()
    assert setting.written() == made
    [line] = [line for line in logs if line["event"] == "certificates_of_others"]
    assert line["secrets"] == [f"{NAMESPACE}/{KRAPAO_SECRET}"]


async def test_cert_managers_own_is_used_as_it_is(setting: Setting, autojump_clock: MockClock, tmp_path: Any) -> None:
    setting.began = trio.current_time()
    authority = TestAuthority()
    folder = authority.write(tmp_path / "m", MIWEN_NAME, made_at=START, lifetime=datetime.timedelta(days=3))
    setting.put(MIWEN_SECRET, {part: (folder / part).read_bytes() for part in PARTS})
    identity = await setting.keeper(makes=False).identity()
    assert identity.certificates == (folder / CERTIFICATE).read_bytes()
    assert setting.written() == 0


async def test_a_secret_that_cant_be_used_is_named_with_what_to_do(setting: Setting, autojump_clock: MockClock) -> None:
    setting.began = trio.current_time()
    keeper = setting.keeper(makes=False)
    with pytest.raises(JiemiError, match="there is no Secret jiemi/miwen-tls") as caught:
        await keeper.identity()
    assert "--make-certificates" in str(caught.value)
    assert "`kubectl --namespace jiemi describe certificate`" in str(caught.value)
    setting.put(MIWEN_SECRET, {CERTIFICATE: b"x", KEY: b"canary-key", AUTHORITIES: b"z"})
    with pytest.raises(JiemiError, match=r"KrapaoNotTrusted: tls.crt of Secret jiemi/miwen-tls is no cert") as caught:
        await keeper.identity()
    assert "canary-key" not in str(caught.value)
    assert "Correct Secret jiemi/miwen-tls, or have what made it make it again." in str(caught.value)


@pytest.mark.parametrize(
    ("subject", "without", "words"),
    [
        (MIWEN_NAME, AUTHORITIES, "ca.crt of Secret jiemi/miwen-tls is missing or empty. Put the authority of the"),
        (KRAPAO_NAME, None, "in tls.crt of Secret jiemi/miwen-tls lacks the usage client auth. Have it issued for"),
    ],
)
async def test_what_cert_manager_was_asked_for_wrongly_is_named_with_what_to_ask_for(
    setting: Setting, autojump_clock: MockClock, tmp_path: Path, subject: str, without: str | None, words: str
) -> None:
    setting.began = trio.current_time()
    folder = TestAuthority().write(tmp_path / "made", subject, made_at=START, lifetime=datetime.timedelta(days=3))
    setting.put(MIWEN_SECRET, {part: (folder / part).read_bytes() for part in PARTS if part != without})
    with pytest.raises(JiemiError) as caught:
        await setting.keeper(makes=False).identity()
    assert words in caught.value.failure.text


async def test_ten_miwens_at_once_end_with_one_authority(setting: Setting, autojump_clock: MockClock) -> None:
    setting.began = trio.current_time()

    class Slow(FakeKubernetes):
        async def get_secret(self, namespace: str, name: str) -> dict[str, Any]:
            await trio.sleep(0.1)
            return dict(await super().get_secret(namespace, name))

    setting.kubernetes = Slow()
    setting.kubernetes.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(setting.keeper().renew)
    setting.assert_whole()
    assert len(x509.load_pem_x509_certificates(setting.part(AUTHORITIES_SECRET, AUTHORITIES))) == 1


async def test_it_tries_until_the_api_server_lets_it(setting: Setting, autojump_clock: MockClock) -> None:
    setting.began = trio.current_time()
    for reason in ("ClusterUnavailable", "SecretForbidden", "ClusterUnavailable"):
        setting.kubernetes.fail_next("get_secret", JiemiError(reason, "away"))
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(setting.keeper().keep)
            await trio.sleep(30)
            nursery.cancel_scope.cancel()
    assert [line["event"] for line in logs].count("certificates_not_made") == 3
    setting.assert_whole()
