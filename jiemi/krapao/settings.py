"""Krapao's settings in one frozen object. The command line builds it; nothing else reads flags or variables."""

from __future__ import annotations

from pathlib import Path

import attrs

from jiemi.core.address_rules import AddressRules
from jiemi.krapao.network.proxy import Proxy
from jiemi.krapao.operator_environment import OperatorEnvironment
from jiemi.rpc.contract import MAX_DOCUMENTS, MAX_FILE_BYTES, MAX_RENDERED_BYTES, MEBIBYTE


@attrs.frozen(kw_only=True)
class KrapaoSettings:
    """Paths, permissions and bounds of one Krapao.

    Attributes:
        state_dir: folder on a volume for the clones; made if it is missing. It holds git objects (ciphertext) only.
        runtime_dir: folder on a tmpfs or ramfs for what must never reach a disk: each pgp run's keyring. A folder on
            anything else is refused when a pgp key is used. Keep the path short: a unix socket's is at most 107 bytes.
        sops: path of the sops program; None searches `programs_path` at each use.
        gpg: path of the gpg program, with gpg-agent beside it; None searches `programs_path` at each use.
        programs_path: folders searched for programs, separated by colons.
        allow_file_urls: whether `file://` URLs may be followed. They reach every repository that this user may read.
        ssh_known_hosts: lines of a known_hosts file (sshd(8)) that are used for every repository.
        addresses: rules, beside those that are built in, about the addresses of git hosts and key services that a
            Decryptor or a file names. They do not hold for a proxy or for a Vault server that the operator names.
        proxy: that of the operator for git, or None for none; a Decryptor may name one of its own instead. The
            environment's is never used.
        ca_bundle: path of a PEM file of authorities for git over https, beside the system's; or None. It is read again
            for each connection.

        git_timeout_seconds: limit for one listing of refs or one fetch as a whole.
        connect_timeout_seconds: limit for reaching a host, and for each of its silences.
        min_bytes_per_second: average rate below which a connection is ended, once a listing has taken
            `listing_grace_seconds` or a fetch `fetch_grace_seconds`: the host of a large one may count before it sends.
        max_refs_bytes: largest listing of refs.
        max_pack_bytes: most that one fetch may transfer.
        max_object_bytes: largest single object in a repository, unpacked; GitHub takes files up to 100 MiB.
        max_unpacked_bytes: most that one fetch may unpack to.
        listing_concurrency: number of listings that run at once, shared between tenants
            (`jiemi.concurrency.fair_limiter`); at most three quarters of them go to one host.
        git_concurrency: number of fetches that run at once, shared in the same way.

        max_packs: number of packs above which a clone is recreated; each fetch adds one.
        max_clone_bytes: size above which a clone is recreated.
        max_store_bytes: size of all clones above which those that nobody has open are removed, the longest unused
            first.
        max_tenant_store_bytes: most that the clones of one tenant may take of these, including those that it has open.
        max_revisions: number of a repository's newest revisions that may still be rendered.
        max_tree_entries: number of entries that one search for files may look at; Linux's own source has 100,000.
        search_timeout_seconds: limit for one search; 100,000 entries take 0.2 s in one folder, 0.7 s in 10,000 folders.

        max_file_bytes: largest encrypted file that is read.
        max_rendered_bytes: most that a file may decrypt to.
        max_documents: most documents in a file.
        decrypt_timeout_seconds: limit for one run of sops with all that it needs.
        decrypt_cpu_seconds: processor time that one run may take.
        decrypt_memory_bytes: memory that one process may write to; sops uses about 40 MiB, 130 MiB for files of 4 MiB.
        decrypt_concurrency: number of runs at once, shared fairly between tenants, so that a slow key service of one
            does not hold up the others.

        key_service_timeout_seconds: limit for one data key, including the start of its holder if none runs.
        max_key_requests: number of data keys that one file may ask for. A file for 50 recipients is a large one.
        max_holders: number of processes that hold credentials at once, of about 40 MiB each; if there are too many, the
            longest unused one of the tenant that has the most is ended.
        holder_idle_seconds: time that a holder is kept after its last use; starting one takes 20 ms, with pgp 150 ms.
        operator: proxies, authorities and identities of Krapao's own environment that holders may use.
        vault_addresses: Vault servers that every Decryptor's token may be sent to.
        own_vault_address: Vault server for an identity of Krapao's own; or None.
        require_named_vault: whether a Vault server that nobody names is refused, the first time too.
        age_plugins_path: folders with age plugins, separated by colons; "" allows none.
    """

    state_dir: Path
    runtime_dir: Path = Path("/dev/shm")  # noqa: S108 - a tmpfs, which is checked; keyrings get folders of their own
    sops: Path | None = None
    gpg: Path | None = None
    programs_path: str = "/usr/local/bin:/usr/bin:/bin"
    allow_file_urls: bool = False
    ssh_known_hosts: str = ""
    addresses: AddressRules = AddressRules()
    proxy: Proxy | None = None
    ca_bundle: Path | None = None

    git_timeout_seconds: float = 60
    connect_timeout_seconds: float = 15
    min_bytes_per_second: int = 1_024
    listing_grace_seconds: float = 20
    fetch_grace_seconds: float = 40
    max_refs_bytes: int = 16 * MEBIBYTE
    max_pack_bytes: int = 256 * MEBIBYTE
    max_object_bytes: int = 100 * MEBIBYTE
    max_unpacked_bytes: int = 1024 * MEBIBYTE
    listing_concurrency: int = 32
    git_concurrency: int = 8

    max_packs: int = 50
    max_clone_bytes: int = 1024 * MEBIBYTE
    max_store_bytes: int = 8 * 1024 * MEBIBYTE
    max_tenant_store_bytes: int = 4 * 1024 * MEBIBYTE
    max_revisions: int = 64
    max_tree_entries: int = 100_000
    search_timeout_seconds: float = 20

    max_file_bytes: int = MAX_FILE_BYTES
    max_rendered_bytes: int = MAX_RENDERED_BYTES
    max_documents: int = MAX_DOCUMENTS
    decrypt_timeout_seconds: float = 30
    decrypt_cpu_seconds: int = 20
    decrypt_memory_bytes: int = 320 * MEBIBYTE
    decrypt_concurrency: int = 8

    key_service_timeout_seconds: float = 20
    max_key_requests: int = 200
    max_holders: int = 16
    holder_idle_seconds: float = 60
    operator: OperatorEnvironment = OperatorEnvironment()
    vault_addresses: tuple[str, ...] = ()
    own_vault_address: str | None = None
    require_named_vault: bool = False
    age_plugins_path: str = ""
