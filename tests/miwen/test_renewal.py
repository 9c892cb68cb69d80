"""Which certificates there must be: over years, with ends that lag behind, and with Secrets that are lost."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from hypothesis import given, settings
from hypothesis import strategies as st

from jiemi.certificates import Issued, Subject, issue, make_authority
from jiemi.miwen.certificates.renewal import SUBJECTS, End, Held, Lifetimes, next_change, renewed
from jiemi.rpc.tls_names import KRAPAO_NAME, MIWEN_NAME

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
LIFETIMES = Lifetimes()
HOUR = datetime.timedelta(hours=1)
DAY = datetime.timedelta(days=1)


def accepted(certificate: x509.Certificate, authorities: Sequence[x509.Certificate], now: datetime.datetime) -> bool:
    """Whether an end that accepts these authorities accepts the certificate."""
    if not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
        return False
    for each in authorities:
        if each.not_valid_before_utc <= now < each.not_valid_after_utc and each.subject == certificate.issuer:
            try:
                certificate.verify_directly_issued_by(each)
            except Exception:  # noqa: BLE001, S112 - then another may
                continue
            return True
    return False


def both_accept(one: Held, other: Held, now: datetime.datetime) -> bool:
    """Whether Krapao as it was at one time and Miwen as it was at another accept each other."""
    krapao, miwen = one.ends[KRAPAO_NAME], other.ends[MIWEN_NAME]
    assert krapao.issued is not None
    assert miwen.issued is not None
    return accepted(krapao.issued.certificate, miwen.accepts, now) and accepted(
        miwen.issued.certificate, krapao.accepts, now
    )


def prints(held: Held) -> list[str]:
    """All that there is, so that two can be compared."""
    every = [each.certificate for each in held.signers] + list(held.accepted)
    for name in sorted(held.ends):
        end = held.ends[name]
        every += [*([end.issued.certificate] if end.issued else []), *end.accepts]
    return [each.fingerprint(hashes.SHA256()).hex() for each in every]


def issued(held: Held, name: str) -> Issued:
    found = held.ends[name].issued
    assert found is not None
    return found


def test_at_first_everything_is_made_at_once_and_then_nothing_is_done() -> None:
    held = renewed(Held(), START, LIFETIMES)
    assert len(held.signers) == len(held.accepted) == 1
    assert both_accept(held, held, START)
    assert prints(renewed(held, START + HOUR, LIFETIMES)) == prints(held)
    # When the authority may sign, what it signed already stays.
    assert prints(renewed(held, START + 2 * DAY, LIFETIMES)) == prints(held)


def test_the_names_and_usages_are_those_that_the_other_end_asks_for() -> None:
    held = renewed(Held(), START, LIFETIMES)
    for subject in SUBJECTS:
        certificate = issued(held, subject.name).certificate
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert tuple(usage) == subject.usages
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [subject.name]


@settings(max_examples=6)
@given(st.lists(st.integers(0, 23), min_size=1, max_size=3), st.integers(7, 40))
def test_over_years_ends_that_lag_by_less_than_a_day_always_accept_each_other(lags: list[int], step_hours: int) -> None:
    short = attrs.evolve(LIFETIMES, authority=datetime.timedelta(days=120))
    held = renewed(Held(), START, short)
    past: list[tuple[datetime.datetime, Held]] = [(START, held)]
    now, authorities, leaves = START, {prints(held)[0]}, set()
    while now < START + 400 * DAY:
        now += datetime.timedelta(hours=step_hours)
        held = renewed(held, now, short)
        past.append((now, held))
        authorities |= {each.certificate.fingerprint(hashes.SHA256()).hex() for each in held.signers}
        leaves.add(issued(held, MIWEN_NAME).certificate.serial_number)
        assert len(held.accepted) <= 3
        for lag in lags:
            behind = next(state for at, state in reversed(past) if at <= max(now - lag * HOUR, START))
            assert both_accept(behind, held, now), f"Krapao lags {lag} h behind, {now}"
            assert both_accept(held, behind, now), f"Miwen lags {lag} h behind, {now}"
    assert len(authorities) >= 5
    assert len(leaves) >= 18


@pytest.mark.parametrize("lost", ["authorities", KRAPAO_NAME, MIWEN_NAME, "broken key", "wrong names"])
@pytest.mark.parametrize("age_days", [0, 10, 25, 100])
def test_what_is_lost_or_broken_is_made_again_and_no_end_is_without(lost: str, age_days: int) -> None:
    now = START
    held = renewed(Held(), now, LIFETIMES)
    for _ in range(age_days):
        now += DAY
        held = renewed(held, now, LIFETIMES)
    before = held
    if lost == "authorities":
        held = attrs.evolve(held, signers=(), accepted=())
    elif lost == "broken key":
        held = attrs.evolve(held, signers=())
    elif lost == "wrong names":
        other = issue(held.signers[-1], Subject("x", SUBJECTS[1].usages, ("other",)), now, DAY)
        held = attrs.evolve(held, ends={**held.ends, MIWEN_NAME: End(other, held.accepted)})
    else:
        held = attrs.evolve(held, ends={name: end for name, end in held.ends.items() if name != lost})
    for _ in range(40):
        held = renewed(held, now, LIFETIMES)
        assert both_accept(held, held, now)
        if now <= START + age_days * DAY + 23 * HOUR:
            # Krapao's volume may still be as it was.
            assert both_accept(before, held, now)
        now += 23 * HOUR
    if lost in ("authorities", "broken key"):
        assert held.signers[0].certificate not in before.accepted
        assert issued(held, KRAPAO_NAME).certificate.issuer == held.signers[0].certificate.subject


def test_one_of_another_authority_is_replaced() -> None:
    held = renewed(Held(), START, LIFETIMES)
    stranger = make_authority("Jiemi", START, LIFETIMES.authority)
    forged = issue(stranger, SUBJECTS[1], START, DAY)
    held = renewed(attrs.evolve(held, ends={**held.ends, MIWEN_NAME: End(forged, held.accepted)}), START, LIFETIMES)
    assert both_accept(held, held, START)


def test_it_says_when_there_will_be_something_to_do() -> None:
    held, now, looks = renewed(Held(), START, LIFETIMES), START, 0
    seen = {issued(held, MIWEN_NAME).certificate.serial_number}
    while now < START + 200 * DAY:
        now = next_change(held, now, LIFETIMES)
        held = renewed(held, now, LIFETIMES)
        seen.add(issued(held, MIWEN_NAME).certificate.serial_number)
        looks += 1
        assert both_accept(held, held, now)
    assert len(seen) == 11, "each is renewed after 20 days"
    assert looks < 60
