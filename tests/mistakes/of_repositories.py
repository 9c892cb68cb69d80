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


def _symlink(bench: Bench) -> None:
    bench.good()
    bench.symlinks[bench.path("link.yaml")] = "secret.enc.yaml"
    bench.spec["source"]["fileToDecrypt"] = bench.path("link.yaml")


URLS = (
    Mistake("url-password", "The URL holds a token.", "InvalidUrl", "", _url("https://me:canary@git.example/app.git")),
    Mistake("url-no-scheme", "The URL has no scheme.", "InvalidUrl", "", _url("git.example/acme/app")),
    Mistake(
        "url-web-page",
        "The URL is that of a web page.",
        "InvalidUrl",
        "",
        _url("https://git.example/acme/app?tab=readme"),
    ),
    Mistake("url-s3", "The URL is no git repository's.", "SchemeNotAllowed", "", _url("s3://bucket/app")),
    Mistake("url-file", "A file URL.", "SchemeNotAllowed", "", _url("file:///srv/app.git")),
    Mistake("url-no-path", "The URL has no path.", "InvalidUrl", "", _url("https://git.example")),
    Mistake("url-blank", "The URL ends with a blank.", "InvalidUrl", "", _url("https://git.example/acme/app.git ")),
    Mistake("host-down", "Nothing listens at the host.", "HostUnreachable", "", _url("http://127.0.0.1:1/app.git")),
    Mistake(
        "metadata-address",
        "The URL leads to a metadata service.",
        "AddressNotAllowed",
        "",
        _url("http://169.254.169.254/app.git"),
    ),
    Mistake(
        "no-such-repository", "The repository's name is misspelt.", "RepositoryNotFound", "", _at_the_host("ap.git")
    ),
    Mistake("empty-repository", "Nothing was pushed yet.", "RefNotFound", "", _empty_repository),
    Mistake("branch-misspelt", "The branch's name is misspelt.", "RefNotFound", "", _ref(branch="relase-1")),
    Mistake("branch-is-a-tag", "`branch` names a tag.", "RefNotFound", "", _ref(branch="v1.0")),
    Mistake("tag-is-a-branch", "`tag` names a branch.", "RefNotFound", "", _ref(tag="release-1")),
    Mistake("tag-misspelt", "The tag's name is misspelt.", "RefNotFound", "", _ref(tag="1.0")),
    Mistake("branch-in-full", "`branch` is written in full.", "RefNotFound", "", _ref(branch="refs/heads/main")),
    Mistake("no-such-commit", "The commit was never pushed.", "RefNotFound", "", _ref(commit="1" * 40)),
)

PATHS = (
    Mistake(
        "file-misspelt",
        "The file has another ending.",
        "FileNotFound",
        "",
        _source(fileToDecrypt="{app}/secret.enc.yml"),
    ),
    Mistake(
        "folder-misspelt",
        "The folder's name is misspelt.",
        "FileNotFound",
        "",
        _source(fileToDecrypt="{app}s/secret.enc.yaml"),
    ),
    Mistake(
        "file-of-files",
        "A plain path of `files` is misspelt.",
        "FileNotFound",
        "",
        _files("{app}/*.yaml", "{app}/secret.yaml"),
    ),
    Mistake("sops-path", "`sopsPath` names no file.", "FileNotFound", "", _source(sopsPath="{app}/.sops.yml")),
    Mistake("glob-as-file", "`fileToDecrypt` is a glob.", "InvalidSpec", "", _source(fileToDecrypt="{app}/*.yaml")),
    Mistake("folder-as-file", "`fileToDecrypt` is a folder.", "NotAFile", "", _source(fileToDecrypt="{app}")),
    Mistake("symlink", "`fileToDecrypt` is a symbolic link.", "NotAFile", "", _symlink),
    Mistake(
        "leading-slash",
        "The path begins with a slash.",
        "FileNotFound",
        "",
        _source(fileToDecrypt="/{app}/secret.enc.yaml"),
    ),
    Mistake(
        "out-of-it",
        "The path leads out of the repository.",
        "FileNotFound",
        "",
        _source(fileToDecrypt="../secret.enc.yaml"),
    ),
    Mistake("no-match", "The glob matches nothing.", "NothingToApply", "", _files("{app}/**/*.json")),
)
