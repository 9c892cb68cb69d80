"""Mistakes in the repository's URL and ref, and in the paths of files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mistakes.mistake import Bench, Mistake


def _url(url: str) -> Callable[[Bench], None]:
    return lambda bench: bench.repo(url=url)


def _at_the_host(path: str) -> Callable[[Bench], None]:
    return lambda bench: bench.repo(url=f"{bench.words['base']}/{path}")


def _ref(**ref: str) -> Callable[[Bench], None]:
    return lambda bench: bench.repo(ref=ref)


def _empty_repository(bench: Bench) -> None:
    bench.repo(url=bench.urls["empty"])


def _source(**fields: Any) -> Callable[[Bench], None]:
    def make(bench: Bench) -> None:
        bench.good()
        for name, value in fields.items():
            bench.spec["source"][name] = value.format(app=bench.name) if isinstance(value, str) else value

    return make


def _files(*patterns: str) -> Callable[[Bench], None]:
    def make(bench: Bench) -> None:
        bench.good()
        bench.only_files(*(each.format(app=bench.name) for each in patterns))

    return make


def _sops_path(bench: Bench) -> None:
    bench.good()
    bench.put(".sops.yaml", "creation_rules: []\n")
    bench.spec["source"]["sopsPath"] = bench.path("sops.yaml")


def _symlink(bench: Bench) -> None:
    bench.good()
    bench.symlinks[bench.path("link.yaml")] = "/srv/secret.enc.yaml"
    bench.spec["source"]["fileToDecrypt"] = bench.path("link.yaml")


URLS = (
    Mistake(
        "url-password",
        "The URL holds a token.",
        "InvalidUrl",
        "spec.source.repository.url holds a user name or password. Take it out of the URL, and put it into a "
        "Secret that spec.source.repository.credentials.token (and username) names; if it is in use, replace it, "
        "because whoever may read the Decryptor has seen it.",
        _url("https://me:canary@git.example/app.git"),
    ),
    Mistake(
        "url-no-scheme",
        "The URL has no scheme.",
        "InvalidUrl",
        "spec.source.repository.url is no URL: it begins with no scheme:// and is not user@host:path. Begin it "
        "with https:// (or ssh://, http://, git://), or write user@host:path.",
        _url("git.example/acme/app"),
    ),
    Mistake(
        "url-web-page",
        "The URL is that of a web page.",
        "InvalidUrl",
        "spec.source.repository.url has a query or a fragment, which a repository's address has not. Leave out "
        "what begins with ? or #; a branch or tag goes into spec.source.repository.ref.",
        _url("https://git.example/acme/app?tab=readme"),
    ),
    Mistake(
        "url-s3",
        "The URL is no git repository's.",
        "SchemeNotAllowed",
        "spec.source.repository.url: its scheme is none that Krapao speaks. Use https://, http://, ssh://, "
        "git:// or user@host:path.",
        _url("s3://bucket/app"),
    ),
    Mistake(
        "url-file",
        "A file URL.",
        "SchemeNotAllowed",
        "spec.source.repository.url: this Krapao follows no file:// URLs. Use the address of a git host; the "
        "operator may allow file:// with `jiemi krapao --allow-file-urls`.",
        _url("file:///srv/app.git"),
    ),
    Mistake(
        "url-no-path",
        "The URL has no path.",
        "InvalidUrl",
        "spec.source.repository.url has no path. Add the repository's path: https://HOST/OWNER/REPOSITORY.",
        _url("https://git.example"),
    ),
    Mistake(
        "url-blank",
        "The URL ends with a blank.",
        "InvalidUrl",
        "spec.source.repository.url holds a space, a control character, a backslash or a character beyond ASCII. "
        "Take a space or line break at its ends out, and encode such a character within it as %XX.",
        _url("https://git.example/acme/app.git "),
    ),
    Mistake(
        "host-down",
        "Nothing listens at the host.",
        "HostUnreachable",
        "spec.source.repository.url: no git server answers at 127.0.0.1:1: its name is unknown, it is down or too "
        "slow, its port is closed or filtered, or what answers is no git server; Krapao's log says which. Check the "
        "URL, DNS and network policies. Jiemi tries again.",
        _url("http://127.0.0.1:1/app.git"),
    ),
    Mistake(
        "metadata-address",
        "The URL leads to a metadata service.",
        "AddressNotAllowed",
        "spec.source.repository.url: Krapao does not connect to the address of 169.254.169.254: it is loopback, "
        "link-local, a metadata service's or the like, or one that the operator denies; Krapao's log names it. Use "
        "another host, or ask the operator to allow the address (`jiemi krapao --allow-address`).",
        _url("http://169.254.169.254/app.git"),
    ),
    Mistake(
        "no-such-repository",
        "The repository's name is misspelt.",
        "RepositoryNotFound",
        "spec.source.repository.url: {host} answered 404: no repository at /ap.git, or none without credentials. "
        "Correct the path; for a private repository put a token into spec.source.repository.credentials.token.",
        _at_the_host("ap.git"),
    ),
    Mistake(
        "empty-repository",
        "Nothing was pushed yet.",
        "RefNotFound",
        "spec.source.repository.url: {empty} has no HEAD, or is empty. Push a first commit, or name a branch or "
        "tag in spec.source.repository.ref.",
        _empty_repository,
    ),
    Mistake(
        "branch-misspelt",
        "The branch's name is misspelt.",
        "RefNotFound",
        "spec.source.repository.ref.branch: {url} has no branch relase-1; it has the branches release-1, "
        "release-2, main. Correct spec.source.repository.ref.branch, or push the branch.",
        _ref(branch="relase-1"),
    ),
    Mistake(
        "branch-is-a-tag",
        "`branch` names a tag.",
        "RefNotFound",
        "spec.source.repository.ref.branch: {url} has no branch v1.0, but a tag of that name. Write "
        "spec.source.repository.ref.tag in place of spec.source.repository.ref.branch, or push the branch.",
        _ref(branch="v1.0"),
    ),
    Mistake(
        "tag-is-a-branch",
        "`tag` names a branch.",
        "RefNotFound",
        "spec.source.repository.ref.tag: {url} has no tag release-1, but a branch of that name. Write "
        "spec.source.repository.ref.branch in place of spec.source.repository.ref.tag, or push the tag.",
        _ref(tag="release-1"),
    ),
    Mistake(
        "tag-misspelt",
        "The tag's name is misspelt.",
        "RefNotFound",
        "spec.source.repository.ref.tag: {url} has no tag 1.0; it has the tag v1.0. Correct "
        "spec.source.repository.ref.tag, or push the tag.",
        _ref(tag="1.0"),
    ),
    Mistake(
        "branch-in-full",
        "`branch` is written in full.",
        "RefNotFound",
        "spec.source.repository.ref.branch: {url} has no branch refs/heads/main; it has the branches main, "
        "release-1, release-2. Correct spec.source.repository.ref.branch, or push the branch.",
        _ref(branch="refs/heads/main"),
    ),
    Mistake(
        "commit-for-branch",
        "`branch` names a commit.",
        "RefNotFound",
        "spec.source.repository.ref.branch: {url} has no branch 3f1c2a9b, and that looks like a commit. Write all 40 "
        "digits of the commit into spec.source.repository.ref.commit, or correct spec.source.repository.ref.branch.",
        _ref(branch="3f1c2a9b"),
    ),
    Mistake(
        "no-such-commit",
        "The commit was never pushed.",
        "RefNotFound",
        "spec.source.repository.ref.commit: the host does not give commit "
        "1111111111111111111111111111111111111111: it is not in the repository, or the host gives only tips of "
        "branches. Push the commit, or a branch or tag that names it; and correct `ref.commit` where it is "
        "another.",
        _ref(commit="1" * 40),
    ),
    Mistake(
        "tags-are-no-versions",
        "`semver`, and the tags are no whole versions.",
        "RefNotFound",
        "spec.source.repository.ref.semver: {url} has no tag whose version is in 1.x: none of its tags is a version; "
        "they are v1.0. Push tags such as v1.2.3, with all three numbers; or name the tag itself in ref.tag.",
        _ref(semver="1.x"),
    ),
    Mistake(
        "semver-is-no-range",
        "`semver` is no range.",
        "InvalidSpec",
        "must be a range of versions, but it can't be read from 'latest' on @ spec.source.repository.ref.semver. Write "
        "a range such as >=1.0.0 <2.0.0, ~1.4 or *.",
        _ref(semver="latest"),
    ),
    Mistake(
        "semver-filter-is-no-expression",
        "`semverFilter` is no regular expression.",
        "InvalidSpec",
        "spec.source.repository.ref.semverFilter is no regular expression: missing ): (v. Correct it; its syntax is "
        "RE2's, which Flux takes too.",
        _ref(semver="*", semverFilter="(v"),
    ),
    Mistake(
        "no-such-ref",
        "`name` is no ref of the host.",
        "RefNotFound",
        "spec.source.repository.ref.name: {url} has no ref refs/merge-requests/1/head. Correct "
        "spec.source.repository.ref.name; `git ls-remote` shows the refs that there are. Changes under review are "
        "refs/pull/1/head on GitHub and Gitea, refs/merge-requests/1/head on GitLab, refs/pull-requests/1/from on "
        "Bitbucket.",
        _ref(name="refs/merge-requests/1/head"),
    ),
)

PATHS = (
    Mistake(
        "file-misspelt",
        "The file has another ending.",
        "FileNotFound",
        "spec.source.fileToDecrypt: {app}/secret.enc.yml: not in revision {revision}; there is "
        "{app}/secret.enc.yaml. Correct the path, or commit the file.",
        _source(fileToDecrypt="{app}/secret.enc.yml"),
    ),
    Mistake(
        "folder-misspelt",
        "The folder's name is misspelt.",
        "FileNotFound",
        "spec.source.fileToDecrypt: {app}s/secret.enc.yaml: not in revision {revision}: there is no folder "
        "{app}s; there are {app}, file-misspelt, folder-as-file. Correct the path, or commit the file.",
        _source(fileToDecrypt="{app}s/secret.enc.yaml"),
    ),
    Mistake(
        "file-of-files",
        "A plain path of `files` is misspelt.",
        "FileNotFound",
        "spec.source.files[1]: {app}/secret.yaml: not in revision {revision}; there is {app}/secret.enc.yaml. "
        "Correct the path, or commit the file.",
        _files("{app}/*.yaml", "{app}/secret.yaml"),
    ),
    Mistake(
        "sops-path",
        "`sopsPath` names no file.",
        "FileNotFound",
        "spec.source.sopsPath: {app}/sops.yaml: not in revision {revision}; there is {app}/.sops.yaml. Correct "
        "the path, or commit the file.",
        _sops_path,
    ),
    Mistake(
        "glob-as-file",
        "`fileToDecrypt` is a glob.",
        "InvalidSpec",
        "must be the path of one file, not a glob @ spec.source.fileToDecrypt. Put the glob into spec.source.files.",
        _source(fileToDecrypt="{app}/*.yaml"),
    ),
    Mistake(
        "folder-as-file",
        "`fileToDecrypt` is a folder.",
        "NotAFile",
        "spec.source.fileToDecrypt: {app}: a directory. Name a file in it, or give spec.source.files {app}/** "
        "for all files in it.",
        _source(fileToDecrypt="{app}"),
    ),
    Mistake(
        "symlink",
        "`fileToDecrypt` is a symbolic link out of the repository.",
        "NotAFile",
        "spec.source.fileToDecrypt: {app}/link.yaml: the symbolic link {app}/link.yaml leads to /srv/secret.enc.yaml, "
        "out of the repository. Let the link lead to a file of this repository by a relative path, or commit the file "
        "in its place.",
        _symlink,
    ),
    Mistake(
        "leading-slash",
        "The path begins with a slash.",
        "FileNotFound",
        "spec.source.fileToDecrypt: /{app}/secret.enc.yaml: begins with /, but paths count from the repository's "
        "root. Write it without that: {app}/secret.enc.yaml.",
        _source(fileToDecrypt="/{app}/secret.enc.yaml"),
    ),
    Mistake(
        "out-of-it",
        "The path leads out of the repository.",
        "FileNotFound",
        "spec.source.fileToDecrypt: ../secret.enc.yaml: leads out of the repository. Write the path from the "
        "repository's root, with no .. at its beginning.",
        _source(fileToDecrypt="../secret.enc.yaml"),
    ),
    Mistake(
        "no-match",
        "The glob matches nothing.",
        "NothingToApply",
        "spec.source.files matches no file of the revision ({app}/**/*.json); what was applied stays. Correct "
        "spec.source.files and exclude, or set spec.allowEmpty if it is meant.",
        _files("{app}/**/*.json"),
    ),
    Mistake(
        "glob-of-braces",
        "A glob with braces.",
        "NothingToApply",
        "spec.source.files matches no file of the revision ({app}/*.{{yaml,yml}}); what was applied stays. Correct "
        "spec.source.files and exclude, or set spec.allowEmpty if it is meant. Write one glob for each alternative in "
        "{{}}: braces have no special meaning.",
        _files("{app}/*.{{yaml,yml}}"),
    ),
    Mistake(
        "glob-turned-round",
        "`!` in `files`, as in .gitignore.",
        "InvalidSpec",
        "must not begin with !, which does not exclude files here @ spec.source.files[1]. Put globs of files to leave "
        "out into spec.source.exclude, without the !.",
        _files("{app}/**", "!{app}/charts/**"),
    ),
)
