"""Which Decryptors a policy takes, what it asks of their objects, and that no bound is lost by a slip."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.decisions.policy import Policy, PolicyRule, read_policy, require_namespace
from jiemi.core.errors import JiemiError
from jiemi.core.objects.identity import ObjectRef
from jiemi.core.patterns import matches

POLICY = read_policy("""
rules:
  - namespaces: [team-a, "team-a-*"]
    repositories: ["https://git.example.com/team-a/**"]
    paths: ["production/*.yaml"]
    recipients: ["age1one"]
  - namespaces: [team-a]
    repositories: ["git@git.example.com:team-a/*"]
    objectNamespaces: [team-a, shared]
""")
URL = "https://git.example.com/team-a/app.git"


def taken(namespace: str, url: str, path: str) -> PolicyRule | str:
    try:
        return POLICY.rule_for(namespace=namespace, url=url, path=path)
    except JiemiError as error:
        assert error.failure.reason == "PolicyDenied"
        return error.failure.text


def test_a_rule_takes_a_decryptor_whose_namespace_repository_and_file_it_lists() -> None:
    assert taken("team-a", URL, "production/a.yaml") is POLICY.rules[0]
    assert taken("team-a-web", URL, "production/a.yaml") is POLICY.rules[0]
    assert taken("team-a", "git@git.example.com:team-a/app.git", "any/where") is POLICY.rules[1]


@pytest.mark.parametrize(
    ("namespace", "url", "path", "says"),
    [
        ("team-b", URL, "production/a.yaml", "no rule is for namespace team-b"),
        ("team-a", "https://git.example.com/team-b/app.git", "production/a.yaml", "in none of the rules"),
        ("team-a", URL, "staging/a.yaml", "in none of the rules"),
        ("team-a", URL, "production/x/a.yaml", "in none of the rules"),
        ("team-a-web", "git@git.example.com:team-a/app.git", "x", "in none of the rules"),
        ("team-a", "https://git.example.com/team-a/../team-b/app.git", "production/a.yaml", "must be plain"),
        ("team-a", "https://git.example.com/team-a/%2e%2e/team-b/app.git", "production/a.yaml", "must be plain"),
        ("team-a", "https://git.example.com/team-a/..\\team-b", "production/a.yaml", "must be plain"),
        ("team-a", "https://git.example.com/team-a/?x", "production/a.yaml", "must be plain"),
        ("team-a", "https://git.example.com/team-a/", "production/a.yaml", "must be plain"),
        ("team-a", "https://git.example.com//team-a/app.git", "production/a.yaml", "must be plain"),
        ("team-a", "https://git.example.com/team-a//app.git", "production/a.yaml", "must be plain"),
        ("team-a", "git@git.example.com:../team-b", "x", "must be plain"),
        ("team-a", "https://git.example.com.evil/team-a/app.git", "production/a.yaml", "in none of the rules"),
        ("team-a", "https://evil/https://git.example.com/team-a/x", "production/a.yaml", "must be plain"),
    ],
)
def test_what_no_rule_takes_is_denied(namespace: str, url: str, path: str, says: str) -> None:
    found = taken(namespace, url, path)
    assert isinstance(found, str)
    assert says in found


def asked(namespace: str, url: str, policy: Policy = POLICY) -> str | None:
    """What is said where nothing is known of the file yet."""
    try:
        policy.require_repository(namespace=namespace, url=url)
    except JiemiError as error:
        assert error.failure.reason == "PolicyDenied"
        return error.failure.message
    return None


def test_a_repository_is_let_through_where_some_file_of_it_may_be() -> None:
    assert asked("team-a", URL) is None
    assert asked("team-a-web", URL) is None
    assert asked("team-a", "git@git.example.com:team-a/app.git") is None


@pytest.mark.parametrize(
    ("namespace", "url", "says"),
    [
        ("team-b", URL, "no rule is for namespace team-b"),
        ("team-a", "https://git.example.com/team-b/app.git", "spec.source.repository.url is in none of the rules"),
        ("team-a-web", "git@git.example.com:team-a/app.git", "spec.source.repository.url is in none of the rules"),
        ("team-a", "https://git.example.com/team-a/../team-b/app.git", "must be plain"),
        ("team-b", "https://git.example.com/team-a/x\n", "must be plain"),
        ("team-a", "https://git.example.com/team-a/#x", "must be plain"),
    ],
)
def test_a_repository_of_which_no_file_may_be_used_is_not_even_asked(namespace: str, url: str, says: str) -> None:
    found = asked(namespace, url)
    assert found is not None
    assert says in found


@given(
    st.sampled_from(["team-a", "team-a-web", "team-b"]),
    st.sampled_from([URL, "git@git.example.com:team-a/app.git", "https://git.example.com/team-b/x", f"{URL}/../x"]),
    st.sampled_from(["production/a.yaml", "staging/a.yaml", "x"]),
)
def test_no_file_is_taken_of_a_repository_that_is_not_let_through(namespace: str, url: str, path: str) -> None:
    if isinstance(taken(namespace, url, path), PolicyRule):
        assert asked(namespace, url) is None


def test_the_first_rule_that_takes_a_file_is_its_rule() -> None:
    policy = read_policy("rules: [{namespaces: [a], paths: [x]}, {namespaces: [a]}, {namespaces: ['*']}]")
    for namespace, path, expected in (("a", "x", 0), ("a", "y", 1), ("b", "x", 2)):
        assert policy.rule_for(namespace=namespace, url=URL, path=path) is policy.rules[expected]


def allows(rule: PolicyRule, namespace: str, *, own: str = "team-a") -> bool:
    ref = ObjectRef("v1", "Secret" if namespace else "Namespace", namespace, "x")
    try:
        require_namespace(rule, ref, namespace=own)
    except JiemiError as error:
        where = f"in namespace {namespace}" if namespace else "without a namespace"
        assert error.failure.reason == "PolicyDenied"
        assert error.failure.message == f"the operator's policy allows no object {where}: {ref.label}"
        return False
    return True


def test_objects_stay_in_the_namespaces_of_the_rule_or_the_decryptors_own() -> None:
    own, shared = POLICY.rules
    assert allows(own, "team-a")
    assert not allows(own, "team-a-web")
    assert allows(own, "team-a-web", own="team-a-web")
    assert allows(shared, "team-a")
    assert allows(shared, "shared")
    for rule, namespace in ((own, "shared"), (own, "kube-system"), (shared, "team-b"), (shared, "shared2")):
        assert not allows(rule, namespace)


@pytest.mark.parametrize(
    ("namespaces", "cluster_wide", "team_a"),
    [
        ((), False, True),
        (("team-a",), False, True),
        (("",), True, False),
        (("", "team-*"), True, True),
        (("*",), False, True),
        (("**",), False, True),
        (("***",), False, True),
        (("team-b",), False, False),
    ],
)
def test_objects_without_a_namespace_are_allowed_by_name_only_and_by_no_star(
    namespaces: tuple[str, ...], cluster_wide: bool, team_a: bool
) -> None:
    rule = PolicyRule(namespaces=("**",), object_namespaces=namespaces)
    assert allows(rule, "") is cluster_wide
    assert allows(rule, "team-a") is team_a


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "mapping with the one field rules"),
        ("rules: 7", r"@ policy\.rules"),
        ("rules: [{}]", r"required field missing @ policy\.rules\[0\]\.namespaces"),
        ("rules: [{namespaces: a}]", r"@ policy\.rules\[0\]\.namespaces"),
        ("rules: [{namespaces: [a], repository: [x]}]", r"unknown field repository @ rules\[0\]"),
        ("rules: [{namespaces: [7]}]", "must be a string"),
        (
            "rules: [{namespaces: [a], objectNamespaces: team-a}]",
            r"must be a list @ policy\.rules\[0\]\.objectNamespaces",
        ),
        ("rules: [{namespaces: [a], objectNamespaces: [~]}]", r"@ policy\.rules\[0\]\.objectNamespaces\[0\]"),
        ("rule: []", "one field rules"),
        ("{", "not YAML"),
    ],
)
def test_a_file_that_is_no_policy_is_refused_with_its_place(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_policy(text)


@pytest.mark.parametrize("field", ["namespaces", "repositories", "paths", "recipients"])
def test_an_empty_list_is_no_bound_that_could_be_lifted_by_a_slip(field: str) -> None:
    rule: dict[str, object] = {"namespaces": ["a"], field: []}
    with pytest.raises(ValueError, match=rf"an empty list: .* @ rules\[1\]\.{field}"):
        read_policy(json.dumps({"rules": [{"namespaces": ["a"]}, rule]}))


def test_a_policy_without_rules_allows_nothing() -> None:
    nothing = read_policy("rules: []")
    with pytest.raises(JiemiError, match="no rule is for namespace a"):
        nothing.rule_for(namespace="a", url=URL, path="x")
    assert asked("a", URL, nothing) == "the operator's policy: no rule is for namespace a"


def test_a_star_stays_within_a_part_of_a_name_and_two_do_not() -> None:
    assert matches("arn:aws:kms:eu-west-1:1:key/a", "arn:aws:kms:*:1:key/*")
    assert not matches("arn:aws:kms:eu-west-1:2:1:key/a", "arn:aws:kms:*:1:key/*")
    assert not matches("a/b", "*")
    assert matches("a/b:c\nd", "**")
    assert not matches("ab", "a")
    assert matches("a.b", "a.b")
    assert not matches("axb", "a.b")


@given(st.text(), st.text("ab*:/"))
def test_a_pattern_without_stars_takes_itself_only(name: str, pattern: str) -> None:
    if "*" not in pattern:
        assert matches(name, pattern) is (name == pattern)
    assert matches(name, "**")


def sends(rule: PolicyRule, address: str) -> bool:
    try:
        rule.require_key_service(address, field="spec.provider.aws.endpoint")
    except JiemiError as error:
        assert error.failure.reason == "PolicyDenied"
        assert "spec.provider.aws.endpoint" in error.failure.text
        assert not address or address not in error.failure.text, "it may stand in a Secret"
        return False
    return True


BOUND = read_policy("""
rules:
  - namespaces: [a]
    keyServices: ["https://vault.example.com:8200", "https://kms.example.com/**"]
  - namespaces: [b]
  - namespaces: [c]
    recipients: ["https://vault.example.com/v1/**", "age1one"]
""")


@pytest.mark.parametrize(
    "address",
    [
        "https://kms.eu-central-1.amazonaws.com",
        "https://sts.amazonaws.com/",
        "https://oauth2.googleapis.com/token",
        "https://login.microsoftonline.com",
        "https://LOGIN.microsoftonline.com:443",
        "https://team.vault.azure.net",
        *(
            "https://kms.us-gov-west-1.amazonaws.com",
            "https://kms-fips.us-east-1.amazonaws.com",
            "https://x.vault.azure.cn",
        ),
        *("https://sts.cn-north-1.amazonaws.com.cn", "https://cloudkms.europe-west3.rep.googleapis.com"),
    ],
)
def test_the_clouds_own_servers_get_credentials_by_every_rule(address: str) -> None:
    assert all(sends(rule, address) for rule in BOUND.rules)


@pytest.mark.parametrize(
    "address",
    [
        *("https://evil.example", "http://kms.eu-central-1.amazonaws.com", "https://kms.x.amazonaws.com.evil.example"),
        *("https://sts.amazonaws.com@evil.example", "https://evil.example/https://sts.amazonaws.com"),
        *("https://login.microsoftonline.com.evil.example", "https://login.microsoftonline.com:444", "", "no-url"),
        *("https://oauth2.googleapis.com/token/../x", "https://kms.example.com.evil.example/x", "file:///etc/passwd"),
        *("https://vault.example.com:8201", "https://x/.vault.azure.net", "https://kms.a/b.amazonaws.com"),
        # Names of the clouds' customers below the clouds' own.
        *("https://kms.bucket.s3.amazonaws.com", "https://kms.s3.amazonaws.com", "https://sts.s3.amazonaws.com.cn"),
        *("https://kms.x.eu-west-1.elb.amazonaws.com", "https://kms-fips.x.eu-west-1.amazonaws.com"),
        *("https://a.b.vault.azure.net", "https://a.b.managedhsm.usgovcloudapi.net", "https://.vault.azure.net"),
        *(
            "https://cloudkms.x.y.rep.googleapis.com",
            "https://-.vault.azure.net",
            "https://kmsXeu-west-1.amazonaws.com",
        ),
    ],
)
def test_no_other_gets_them_unless_it_is_listed(address: str) -> None:
    assert not any(sends(rule, address) for rule in BOUND.rules)


def test_an_operators_own_star_reaches_over_dots_as_it_is_documented() -> None:
    [rule] = read_policy('rules: [{namespaces: [a], keyServices: ["https://*.example.com"]}]').rules
    assert sends(rule, "https://vault.team.example.com")
    assert not sends(rule, "https://vault/x.example.com")


def test_what_is_listed_gets_them_by_that_rule_alone() -> None:
    for address in ("https://vault.example.com:8200", "HTTPS://vault.EXAMPLE.com:8200/", "https://kms.example.com/x"):
        assert [sends(rule, address) for rule in BOUND.rules] == [True, False, False]


def test_a_rule_of_before_there_were_key_services_names_vault_among_its_recipients() -> None:
    assert [rule.vault_addresses for rule in BOUND.rules] == [
        ("https://vault.example.com:8200", "https://kms.example.com/**"),
        (),
        None,
    ]
    assert read_policy("rules: [{namespaces: [a], recipients: ['**']}]").rules[0].vault_addresses == ()


def test_a_rule_may_refuse_files_whose_mac_does_not_cover_everything() -> None:
    policy = read_policy("rules: [{namespaces: [a], requireFullMac: true}, {namespaces: [b]}]")
    assert [rule.require_full_mac for rule in policy.rules] == [True, False]
    for text in (
        "rules: [{namespaces: [a], requireFullMac: yes please}]",
        "rules: [{namespaces: [a], requirefullmac: true}]",
    ):
        with pytest.raises(ValueError, match=r"requireFullMac|unknown field"):
            read_policy(text)


def test_a_rule_may_want_signed_revisions() -> None:
    policy = read_policy(
        "rules: [{namespaces: [a], requireVerify: true}, {namespaces: [b], paths: [x], requireVerify: true},"
        " {namespaces: [b]}]"
    )
    policy.require_repository(namespace="a", url=URL, is_verified=True)
    policy.require_repository(namespace="b", url=URL, is_verified=False)
    assert not policy.rule_for(namespace="b", url=URL, path="y", is_verified=False).require_verify
    assert policy.rule_for(namespace="b", url=URL, path="x", is_verified=True).require_verify
    for refused in (
        lambda: policy.require_repository(namespace="a", url=URL, is_verified=False),
        lambda: policy.rule_for(namespace="b", url=URL, path="x", is_verified=False),
    ):
        with pytest.raises(JiemiError, match=r"PolicyDenied: .* has no spec\.source\.repository\.verify"):
            refused()
