"""The ordinary mistakes on an embedded control plane, with one Krapao and one Miwen that has the rights of deploy/."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import attrs
from mistakes.catalogue import MISTAKES
from mistakes.mistake import Bench, Mistake
from pyrage import x25519
from support.e2e.lab import Lab, Service, git_server
from support.krapao.pgp_keys import gpg_home_in_memory, run_gpg
from support.kubernetes.api_server import ApiServer
from support.signing.signers import PgpSigner, SshSigner, gpg_program, ssh_signer

from jiemi.core.sensitive import SensitiveText

NAMESPACE = "e2e-mistakes"


@attrs.frozen
class Stage:
    """All is there but the Decryptors with the mistakes.

    Attributes:
        words: what the placeholders of all texts stand for.
    """

    lab: Lab
    miwen: Service
    words: Mapping[str, str]
    benches: Mapping[str, Bench]

    def expected(self, mistake: Mistake) -> str:
        """The whole text that is to be said of it."""
        return mistake.text({**self.words, "app": mistake.name})

    def make(self, mistake: Mistake) -> None:
        """Create the Decryptor."""
        bench = self.benches[mistake.name]
        for other in bench.others:
            self.lab.admin.apply(other).ok()
        self.lab.admin.apply(bench.decryptor(bench.name, bench.spec)).ok()


@contextlib.contextmanager
def staged(lab: Lab, admin: ApiServer) -> Iterator[Stage]:
    """All that the mistakes need; the services end with the context.

    Args:
        admin: of a cluster to which deploy/ was applied.
    """
    lab.namespace(NAMESPACE)
    with (
        git_server(lab.folder / "private", username="me", token=SensitiveText("right-token")) as private,
        contextlib.contextmanager(gpg_home_in_memory)() as gpg_home,
    ):
        stranger = x25519.Identity.generate()
        repository = lab.repository()
        repository.commit({"README.md": b"mistakes\n"})
        urls = {"private": private.create("private.git"), "empty": lab.git.create("empty.git")}
        words = {
            "namespace": NAMESPACE,
            "url": repository.url,
            "base": lab.git.url,
            "host": lab.git.url.removeprefix("http://"),
            "private_host": private.url.removeprefix("http://"),
            "private": urls["private"],
            "empty": urls["empty"],
            "age": str(lab.identity.to_public()),
            "stranger": str(stranger.to_public()),
            "stranger key": str(stranger),
        }
        _signed_repositories(lab, gpg_home, urls, words)
        benches = [Bench(lab, NAMESPACE, mistake.name, repository, urls, words) for mistake in MISTAKES]
        for bench, mistake in zip(benches, MISTAKES, strict=True):
            mistake.make(bench)
        for bench in benches:
            for path, to in bench.symlinks.items():
                link = repository.clone / path
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(to)
        revision = repository.commit({path: content for bench in benches for path, content in bench.files.items()})
        repository.run(
            "push", "--quiet", "origin", "HEAD:release-1", "HEAD:refs/heads/release-2", "HEAD:refs/tags/v1.0"
        )
        _allow_more(admin)
        _, address = lab.start_krapao(name="mistakes")
        kubeconfig = lab.service_account_kubeconfig("jiemi", "miwen")
        miwen = lab.start_miwen(address, NAMESPACE, "--log-format", "json", interval="5m", kubeconfig=kubeconfig)
        first = [each for bench in benches for each in bench.first]
        for each in first:
            lab.admin.apply(each).ok()
        for each in first:
            lab.until_synced(NAMESPACE, each["metadata"]["name"], revision)
        yield Stage(lab, miwen, {**words, "revision": revision[:12]}, {bench.name: bench for bench in benches})
        lab.end_services()


_LONG_AGO = ("--faked-system-time", "20200101T000000")


def _signed_repositories(lab: Lab, gpg_home: Path, urls: dict[str, str], words: dict[str, str]) -> None:
    """A repository that Ann signed by ssh, one that Bob signed by a pgp subkey, and one by a key that has expired."""
    folder = lab.folder / "signers"
    folder.mkdir()
    ann, carl = (ssh_signer(folder, name) for name in ("ann", "carl"))
    run_gpg(gpg_home, "", "--quick-gen-key", "bob <bob@jiemi.invalid>", "ed25519", "cert", "never")
    listed = partial(run_gpg, gpg_home, "", "--with-colons", "--list-keys", "bob")
    primary = _fingerprints(listed())[0]
    run_gpg(gpg_home, "", "--quick-add-key", primary, "ed25519", "sign", "never")
    bob = PgpSigner(gpg_home, primary)
    run_gpg(gpg_home, "", *_LONG_AGO, "--quick-gen-key", "old <old@jiemi.invalid>", "ed25519", "sign", "1d")
    old = PgpSigner(gpg_home, _fingerprints(run_gpg(gpg_home, "", "--with-colons", "--list-keys", "old"))[0])
    signers: Mapping[str, SshSigner | PgpSigner] = {"signed": ann, "signed by pgp": bob, "signed long ago": old}
    for name, signer in signers.items():
        repository = lab.repository()
        signer.configure_by(repository.run)
        if signer is old:
            program = gpg_home / "gpg-of-long-ago"
            program.write_text(f'#!/bin/sh\nexec {gpg_program(gpg_home)} {" ".join(_LONG_AGO)} "$@"\n')
            program.chmod(0o700)
            repository.run("config", "gpg.program", str(program))
        repository.run("config", "commit.gpgSign", "true")
        urls[name] = repository.url
        words[name] = repository.commit({"README.md": b"signed\n"})[:12]
        repository.run("push", "--quiet", "origin", "HEAD:refs/tags/v1.0")
    words |= {
        "ann": ann.fingerprint,
        "ann key": ann.line,
        "ann key cut": ann.line[:-10],
        "carl key": carl.line,
        "bob": primary,
        "bob subkey": _fingerprints(listed())[1],
        "bob key": bob.public.decode(),
        "old": old.fingerprint,
        "old key": old.public.decode(),
    }


def _fingerprints(listed: str) -> list[str]:
    """Of a key and its subkeys, by what gpg lists."""
    return [line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:")]


def _allow_more(admin: ApiServer) -> None:
    """What deploy/ leaves to the operator: to act as ServiceAccounts, and Services."""
    rules = [
        {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["impersonate", "get"]},
        {"apiGroups": [""], "resources": ["services"], "verbs": ["get", "list", "watch", "create", "patch", "delete"]},
    ]
    rbac = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": NAMESPACE}, "rules": rules}
    binding = {
        "apiVersion": f"{rbac}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": NAMESPACE},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": NAMESPACE},
        "subjects": [{"kind": "ServiceAccount", "name": "miwen", "namespace": "jiemi"}],
    }
    for manifest in (role, binding):
        admin.apply(manifest).ok()
