"""Which Decryptors a policy takes, what it asks of their objects, and that no bound is lost by a slip."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.errors import JiemiError
from jiemi.core.manifests import Manifest
from jiemi.core.patterns import matches
from jiemi.core.policy import PolicyRule, read_policy, require_namespaces

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
        return error.failure.message


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
        ("team-a", "git@git.example.com:../team-b", "x", "must be plain"),
        ("team-a", "https://git.example.com.evil/team-a/app.git", "production/a.yaml", "in none of the rules"),
        ("team-a", "https://evil/https://git.example.com/team-a/x", "production/a.yaml", "in none of the rules"),
    ],
)
def test_what_no_rule_takes_is_denied(namespace: str, url: str, path: str, says: str) -> None:
    found = taken(namespace, url, path)
    assert isinstance(found, str)
    assert says in found


def manifest(namespace: str | None) -> Manifest:
    metadata = {"name": "x", **({"namespace": namespace} if namespace is not None else {})}
    return Manifest({"apiVersion": "v1", "kind": "Secret", "metadata": metadata}, 1)


def test_objects_stay_in_the_namespaces_of_the_rule_or_the_decryptors_own() -> None:
    own, shared = POLICY.rules
    require_namespaces(own, [manifest(None), manifest("team-a")], namespace="team-a")
    require_namespaces(shared, [manifest("shared"), manifest(None)], namespace="team-a")
    for rule, namespace in ((own, "shared"), (own, "kube-system"), (shared, "team-b")):
        with pytest.raises(JiemiError, match=f"PolicyDenied: .*no object in namespace {namespace}"):
            require_namespaces(rule, [manifest("team-a"), manifest(namespace)], namespace="team-a")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "mapping with the one field rules"),
        ("rules: 7", r"@ policy\.rules"),
        ("rules: [{}]", r"required field missing @ policy\.rules\[0\]\.namespaces"),
        ("rules: [{namespaces: a}]", r"@ policy\.rules\[0\]\.namespaces"),
        ("rules: [{namespaces: [a], repository: [x]}]", r"unknown field repository @ rules\[0\]"),
        ("rules: [{namespaces: [7]}]", "must be a string"),
        ("rule: []", "one field rules"),
        ("{", "not YAML"),
    ],
)
def test_a_file_that_is_no_policy_is_refused_with_its_place(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_policy(text)


def test_a_policy_without_rules_allows_nothing() -> None:
    with pytest.raises(JiemiError, match="no rule is for namespace a"):
        read_policy("rules: []").rule_for(namespace="a", url=URL, path="x")


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
