"""Hostile submodules: what a repository's writer puts into .gitmodules and beside it, where submodules are followed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
from dulwich.objects import ObjectID
from hostile.case import OPENS
from hostile.cases_repositories import FILE, FOLDER, SUBMODULE, SYMLINK, Entries, Objects
from hostile.lab import Lab

from jiemi.core.reasons import REASONS
from jiemi.krapao.followed_submodules import MAX_SUBMODULES

NOWHERE = ObjectID(b"1" * 40)


@attrs.frozen(kw_only=True)
class Made:
    """What a row can use.

    Attributes:
        shared: a commit of the repository `shared.git` beside the tenant's, which has a file a.yaml.
        address: of the server of both.
    """

    objects: Objects
    lab: Lab
    shared: ObjectID
    address: str

    def gitmodules(self, url: str, path: str = "sub") -> tuple[bytes, int, ObjectID]:
        return self.file(section(url, path).encode())

    def file(self, content: bytes) -> tuple[bytes, int, ObjectID]:
        return (b".gitmodules", FILE, self.objects.blob(content))


def section(url: str, path: str, name: str = "sub") -> str:
    return f'[submodule "{name}"]\n\tpath = {path}\n\turl = {url}\n'


@attrs.frozen(kw_only=True)
class SubmoduleCase:
    """A row.

    Attributes:
        tree: the entries of the root. The Decryptor wants the globs `patterns`, and follows submodules.
        hosts: what `submodules.hosts` names.
        finds: the files that are found.
        others as those of `GlobCase`.
    """

    name: str
    tries: str
    tree: Callable[[Made], Entries]
    patterns: Sequence[str] = ("**/*.yaml",)
    hosts: tuple[str, ...] = ()
    finds: Sequence[str] = ()
    gets: str = attrs.field(default=OPENS)
    so: str = "nothing is found"
    says: str = ""

    @gets.validator
    def _known(self, _: object, value: str) -> None:
        assert value == OPENS or value in REASONS

    @property
    def outcome(self) -> str:
        return f"`{self.gets}`" if self.gets != OPENS else self.so


def _with_url(name: str, tries: str, url: str, says: str = "its URL in .gitmodules", **more: object) -> SubmoduleCase:
    given: dict[str, object] = {"gets": "SubmoduleInvalid", "says": says, **more}
    return SubmoduleCase(
        name=f"submodule-{name}",
        tries=tries,
        tree=lambda made: [made.gitmodules(url.format(made=made)), (b"sub", SUBMODULE, made.shared)],
        **given,  # type: ignore[arg-type]
    )


def _with_content(name: str, tries: str, content: bytes, says: str = ".gitmodules") -> SubmoduleCase:
    return SubmoduleCase(
        name=f"gitmodules-{name}",
        tries=tries,
        tree=lambda made: [made.file(content), (b"sub", SUBMODULE, made.shared)],
        gets="SubmoduleInvalid",
        says=says,
    )


def _many(made: Made) -> Entries:
    names = [f"m{number}" for number in range(MAX_SUBMODULES + 1)]
    content = "".join(section("../shared.git", name, name) for name in names)
    return [made.file(content.encode()), *((name.encode(), SUBMODULE, made.shared) for name in names)]


def _itself(made: Made) -> Entries:
    """Each commit has the one before as its submodule."""
    objects, gitmodules = made.objects, made.gitmodules("../r.git")
    last = objects.commit(objects.tree((b"a.yaml", FILE, objects.blob(b"a: 1\n"))), b"refs/heads/deep")
    for number in range(8):
        last = objects.commit(objects.tree(gitmodules, (b"sub", SUBMODULE, last)), f"refs/heads/d{number}".encode())
    return [gitmodules, (b"sub", SUBMODULE, last)]


CASES: Sequence[SubmoduleCase] = (
    _with_url("ext", "a URL that names a program (`ext::`)", "ext::sh -c touch% ran"),
    _with_url("fd", "a URL that names a descriptor (`fd::`)", "fd::17"),
    _with_url("file", "a file URL", "file:///etc"),
    _with_url("path", "a path on Krapao's machine", "/etc/passwd"),
    _with_url("option", "an option of git's in place of a URL", "--upload-pack=touch ran"),
    _with_url("ssh-option", "an option of ssh's as a host", "ssh://-oProxyCommand=touch/ran"),
    _with_url("ssh-option-short", "the same in ssh's short form", "-oProxyCommand=touch:ran"),
    _with_url("ssh-option-user", "the same as a user", "ssh://-oProxyCommand=x@127.0.0.1/x"),
    _with_url("query", "a query", "{made.address}/shared.git?x=1"),
    _with_url("escape", "an escape sequence for terminals in a URL", "\x1b]0;x\x07../shared.git"),
    _with_url("password", "a URL with a password", "https://evil:pass@127.0.0.1/x", "holds a user name or password"),
    _with_url("above", "a relative URL that leads above the host", "../../../../etc/passwd", "above the host's root"),
    _with_url("dots", "a relative URL that is the host's root", "../", "above the host's root"),
    _with_url(
        "host",
        "a host that the Decryptor does not name",
        "http://127.0.0.2/x.git",
        "127.0.0.2",
        gets="SubmoduleNotAllowed",
    ),
    _with_url(
        "name-of-the-host",
        "another name of the repository's own host",
        "http://localhost/shared.git",
        "localhost",
        gets="SubmoduleNotAllowed",
    ),
    _with_url(
        "metadata",
        "a metadata address, whose host the Decryptor names",
        "http://169.254.169.254/latest",
        "169.254.169.254",
        hosts=("169.254.169.254",),
        gets="AddressNotAllowed",
    ),
    _with_url(
        "other-port",
        "the writer's server at another port of the same host: it is asked, without the credentials",
        "{made.lab.stranger.address}/x.git",
        "no git server answers",
        gets="HostUnreachable",
    ),
    _with_url(
        "other-scheme",
        "the same host by another scheme, as nobody",
        "git://127.0.0.1/x.git",
        "submodule sub",
        gets="HostUnreachable",
    ),
    _with_url(
        "wrong-commit",
        "a commit that the other repository does not have",
        "../other.git",
        "does not give commit",
        gets="RefNotFound",
    ),
    _with_content("include", "an include of a file of Krapao's", b"[include]\n\tpath = /etc/passwd\n"),
    _with_content("garbage", "a .gitmodules of bytes that are no configuration", b"\0\xff[[[\n=\n"),
    _with_content("unclosed", "a section without an end", b'[submodule "sub\n\tpath = sub\n'),
    _with_content("empty", "an empty .gitmodules", b""),
    _with_content("large", "a .gitmodules of a mebibyte", b"#" * (1 << 20)),
    _with_content(
        "twice",
        "two URLs for one path",
        (section("../shared.git", "sub") + section("../other.git", "sub", "b")).encode(),
        "two URLs",
    ),
    _with_content(
        "update",
        "a command for `git submodule update`, and no URL",
        b'[submodule "sub"]\n\tpath = sub\n\tupdate = !touch ran\n',
    ),
    SubmoduleCase(
        name="gitmodules-link",
        tries="a .gitmodules that is a symbolic link to a file of Krapao's",
        tree=lambda made: [
            (b".gitmodules", SYMLINK, made.objects.blob(b"/etc/passwd")),
            (b"sub", SUBMODULE, made.shared),
        ],
        gets="SubmoduleInvalid",
        says=".gitmodules",
    ),
    SubmoduleCase(
        name="gitmodules-folder",
        tries="a folder in place of .gitmodules",
        tree=lambda made: [
            (b".gitmodules", FOLDER, made.objects.tree((b"x", FILE, made.objects.blob(b"x")))),
            (b"sub", SUBMODULE, made.shared),
        ],
        gets="SubmoduleInvalid",
        says=".gitmodules",
    ),
    SubmoduleCase(
        name="submodule-no-gitmodules",
        tries="a submodule without a .gitmodules",
        tree=lambda made: [(b"sub", SUBMODULE, made.shared)],
        gets="SubmoduleInvalid",
        says=".gitmodules is missing",
    ),
    SubmoduleCase(
        name="submodule-names",
        tries="submodules named `..`, `.git` and with a slash in the name",
        tree=lambda made: [
            made.gitmodules("../shared.git", ".."),
            *((name, SUBMODULE, made.shared) for name in (b"..", b".GIT", b".git", b"a/b")),
        ],
    ),
    SubmoduleCase(
        name="submodule-twice",
        tries="a submodule and a folder of one name",
        tree=lambda made: [
            made.gitmodules("../shared.git"),
            (b"sub", FOLDER, made.objects.tree((b"x.yaml", FILE, made.objects.blob(b"x: 1\n")))),
            (b"sub", SUBMODULE, made.shared),
        ],
        so="both are left out",
    ),
    SubmoduleCase(
        name="submodule-blob",
        tries="the hash of a file of the other repository as the commit",
        tree=lambda made: [
            made.gitmodules("../shared.git"),
            (b"sub", SUBMODULE, made.objects.blob(b"a: shared\n")),
        ],
        gets="RefNotFound",
        says="does not give commit",
    ),
    SubmoduleCase(
        name="submodule-through-a-link",
        tries="a symbolic link that leads into a submodule",
        tree=lambda made: [
            made.gitmodules("../shared.git"),
            (b"link.yaml", SYMLINK, made.objects.blob(b"sub/a.yaml")),
            (b"sub", SUBMODULE, made.shared),
        ],
        finds=("sub/a.yaml",),
        so="the link is left out, the submodule's own files are found",
    ),
    SubmoduleCase(
        name="submodule-itself",
        tries="a repository that is its own submodule, nine times over",
        tree=_itself,
        gets="LimitExceeded",
        says="deep",
    ),
    SubmoduleCase(
        name="submodule-many",
        tries="one submodule more than the bound",
        tree=_many,
        gets="LimitExceeded",
        says=f"more than {MAX_SUBMODULES} submodules",
    ),
)
