"""What a repository is opened with: where it is, what is followed in it, and what its host asks for."""

from __future__ import annotations

import attrs

from jiemi.core.sensitive import SensitiveText
from jiemi.rpc.verification import Verification

MAX_SUBMODULE_HOSTS = 50
"""The most hosts that one source's submodules may be on."""


@attrs.frozen
class TagRange:
    """The tags of which the newest version is followed.

    Attributes:
        versions: range of semantic versions, as `jiemi.core.semver` reads it.
        matching: regular expression (RE2 syntax) that is found in the tag's name; None for all tags.
    """

    versions: str
    matching: str | None = None


@attrs.frozen
class Submodules:
    """That submodules are followed.

    Attributes:
        hosts: names of hosts that they may be on, beside the repository's own.
    """

    hosts: tuple[str, ...] = ()


@attrs.frozen
class Source:
    """A repository and the ref in it that is followed. One of the ways to name a ref, or none: the repository's HEAD.

    Attributes:
        url: as in spec.source.repository.url; holds no credential.
        branch: short name of the branch to follow.
        tag: short name of the tag to follow.
        commit: full hash of the one commit that is wanted, whatever moves.
        name: full name of the ref to follow: refs/pull/420/head.
        tags: those of which the newest is followed.
        verification: what a revision must be signed by before a file of it is looked at; None for nothing.
        submodules: that they are followed; None where nothing in them is looked at.
    """

    url: str
    branch: str | None = None
    tag: str | None = None
    commit: str | None = None
    name: str | None = None
    tags: TagRange | None = None
    verification: Verification | None = None
    submodules: Submodules | None = None

    def __attrs_post_init__(self) -> None:
        if sum(each is not None for each in (self.branch, self.tag, self.commit, self.name, self.tags)) > 1:
            raise ValueError("a source follows one ref, or is one commit")


@attrs.frozen
class GitCredentials:
    """What the repository's host asks for. All None for a public one.

    Attributes:
        username: for https; for ssh the user where the URL names none.
        token: a password or access token, for https.
        ssh: a private key in OpenSSH or PEM form, for ssh. `passphrase` opens it where it is protected by one.
        known_hosts: lines of a known_hosts file (sshd(8)), beside those that Krapao was started with.
        bearer: a token that https sends as `Authorization: Bearer` (RFC 6750), in place of username and token.
        ca_bundle: certificates of authorities for https (PEM), beside those that Krapao trusts.
        client_certificate: for https, with its chain (PEM).
        client_key: the private key of the client certificate (PEM).
        passphrase: that of the private key for ssh.
        github_app_id: the id or client id of a GitHub App, which is logged in as for https.
        github_app_private_key: of that App (PEM).
        github_app_installation_id: the number of its installation; None where the host is to be asked.
        github_app_installation_owner: the organization or user whose installation is meant.
        github_app_base_url: of the host's API, where it is no public GitHub.
        proxy_url: of the proxy through which the host is reached, in place of Krapao's own: http, https or socks5.
        proxy_username, proxy_password: by which that is logged in to.
    """

    username: SensitiveText | None = None
    token: SensitiveText | None = None
    ssh: SensitiveText | None = None
    known_hosts: SensitiveText | None = None
    bearer: SensitiveText | None = None
    ca_bundle: SensitiveText | None = None
    client_certificate: SensitiveText | None = None
    client_key: SensitiveText | None = None
    passphrase: SensitiveText | None = None
    github_app_id: SensitiveText | None = None
    github_app_private_key: SensitiveText | None = None
    github_app_installation_id: SensitiveText | None = None
    github_app_installation_owner: SensitiveText | None = None
    github_app_base_url: SensitiveText | None = None
    proxy_url: SensitiveText | None = None
    proxy_username: SensitiveText | None = None
    proxy_password: SensitiveText | None = None
