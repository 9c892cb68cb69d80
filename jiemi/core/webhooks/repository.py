"""Which repository a URL of a webhook, or of a Decryptor, means.

`jiemi.core.urls` keeps two spellings apart where they may be two repositories, because a wrong clone would be a wrong
answer. A webhook only makes Miwen ask a host, so here the opposite is right: https and ssh, with `.git` and without,
and other case of letters are one repository, and so are the names under which the large hosts serve one twice. Ports
that are not the scheme's own stay: another port may be another server.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

import attrs

from jiemi.core.errors import JiemiError
from jiemi.core.urls import DEFAULT_PORTS, Location, Scheme, parse_url

_USERINFO = re.compile(r"(?i)(https?://)[^/@]*@")

_SSH_ON_443 = {
    "ssh.github.com": "github.com",
    "altssh.gitlab.com": "gitlab.com",
    "altssh.bitbucket.org": "bitbucket.org",
}
"""Where the large hosts speak ssh on port 443."""

_AZURE = "dev.azure.com"
_VISUAL_STUDIO = ".visualstudio.com"


@attrs.frozen
class RepositoryKey:
    """Equal for what a webhook takes as one repository.

    Attributes:
        host: in lower case.
        port: None where it is the scheme's own.
        path: in lower case, without `.git`.
    """

    host: str
    port: int | None
    path: str


def repository_key(url: str) -> RepositoryKey | None:
    """The repository that a URL means; None where the text is no URL of one."""
    try:
        # Azure DevOps puts the organization before the host, and a webhook's URL is asked nothing.
        return _key(parse_url(_USERINFO.sub(r"\1", url, count=1)))
    except JiemiError:
        return None


def _key(location: Location) -> RepositoryKey:
    host, path = location.host.removesuffix("."), location.path
    port = None if location.port == DEFAULT_PORTS.get(location.scheme) else location.port
    if location.scheme in (Scheme.HTTP, Scheme.HTTPS):
        path = unquote(path)
    path = path.strip("/").removesuffix(".git").lower()
    if host in _SSH_ON_443:
        host, port = _SSH_ON_443[host], None
    elif host in ("ssh." + _AZURE, "vs-ssh" + _VISUAL_STUDIO) or host == _AZURE or host.endswith(_VISUAL_STUDIO):
        return _azure(host, path)
    return RepositoryKey(host, port, path)


def _azure(host: str, path: str) -> RepositoryKey:
    """The four forms of Azure DevOps as one: organization, project, repository.

    https://learn.microsoft.com/azure/devops/repos/git/clone
    """
    parts = [part for part in unquote(path).split("/") if part not in ("_git", "defaultcollection")]
    if host.startswith(("ssh.", "vs-ssh.")):
        parts = parts[1:] if parts and re.fullmatch(r"v\d+", parts[0]) else parts
    elif host != _AZURE:
        parts = [host.removesuffix(_VISUAL_STUDIO), *parts]
    if len(parts) == 2:  # the repository that has its project's name
        parts.append(parts[1])
    return RepositoryKey(_AZURE, None, "/".join(parts))
