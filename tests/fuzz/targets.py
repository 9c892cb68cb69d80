"""What is fuzzed: for each, inputs to begin with, words of the format, and what must hold of any input.

A target's `check` answers with what became of the input, in a few words: an input whose words are new is worth keeping.
It raises where something does not hold.
"""

from __future__ import annotations

import base64
import contextlib
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import trio
import trio.testing
from fuzz import host_targets, pack_targets, webhook_targets
from fuzz.target import Target
from support.krapao.key_services import lent
from support.krapao.kubectl_yaml_samples import DOCUMENTS as MANIFESTS
from support.krapao.kubectl_yaml_samples import TOKENS as MANIFEST_TOKENS

from jiemi.core.address_rules import AddressRules
from jiemi.core.addresses import normal_address
from jiemi.core.content.ciphertext import (
    ENCRYPTED,
    decoded,
    find_ciphertext,
    format_of_content,
    holds_ciphertext,
    unescaped,
)
from jiemi.core.content.documents import parse_documents
from jiemi.core.content.formats import Format
from jiemi.core.content.globs import is_excluded, matches_path
from jiemi.core.content.pgp_armor import dearmored, packet_tags
from jiemi.core.content.private_keys import holds_private_key
from jiemi.core.decisions.interests import Interest, Interests
from jiemi.core.errors import JiemiError
from jiemi.core.reasons import REASONS
from jiemi.core.sensitive import SensitiveText
from jiemi.krapao.confinement.spawn import Measures
from jiemi.krapao.decryption import keyservice
from jiemi.krapao.decryption.destinations import Refusal, VaultTrust, judge
from jiemi.krapao.decryption.grpc import UNKNOWN, GrpcConnectionError, GrpcStatusError
from jiemi.krapao.decryption.guard import DATA_KEY_BYTES, Guard, KeyServices
from jiemi.krapao.decryption.holder_start import HolderKey, HolderPrograms
from jiemi.krapao.decryption.holders import Held
from jiemi.krapao.decryption.keyservice import (
    AgeMasterKey,
    AwsMasterKey,
    AzureMasterKey,
    DecryptRequest,
    GcpMasterKey,
    HuaweiMasterKey,
    PgpMasterKey,
    VaultMasterKey,
)
from jiemi.krapao.decryption.metadata import read_encryption
from jiemi.krapao.git.tree_changes import changes_between
from jiemi.krapao.git.tree_paths import split_path
from jiemi.krapao.git.trees import Trees
from jiemi.krapao.network.connecting import require_name
from jiemi.krapao.operator_environment import OperatorEnvironment
from jiemi.krapao.reading.mac import is_mac_only_encrypted
from jiemi.krapao.reading.plain import PlainLimits, read_plain
from jiemi.krapao.rendering.line_ends import with_carriage_returns
from jiemi.krapao.settings import KrapaoSettings
from jiemi.krapao.signatures.allowed_signers import read_allowed_signers
from jiemi.krapao.signatures.objects import read_commit, read_tag
from jiemi.krapao.signatures.sshsig import read_signature, require_good
from jiemi.rpc.contract import Changes
from jiemi.rpc.keys import AgeKey, AwsKey, AzureKey, DecryptionKey, GcpKey, HuaweiKey, PgpKey, VaultKey
from jiemi.rpc.verification import PublicKeys

# The metadata reader

AGE = b"age1" + b"q" * 58
ARN = "arn:aws:kms:eu-west-1:111122223333:key/a"
RESOURCE = "projects/p/locations/global/keyRings/r/cryptoKeys/k"
HUAWEI = "tr-west-1:00000000-0000-0000-0000-000000000000"

_YAML = b"""a: ENC[AES256_GCM,data:x,iv:y,tag:z,type:str]
sops:
    age:
        - recipient: %s
    pgp:
        - fp: 23306C6391D0E22B5F4B45FFFB9A04CF402264B8
    kms:
        - arn: arn:aws:kms:eu-west-1:111122223333:key/a
    gcp_kms:
        - resource_id: projects/p/locations/global/keyRings/r/cryptoKeys/k
    azure_kv:
        - vaultUrl: https://v.vault.azure.net
    hc_vault:
        - vault_address: https://vault.example:8200
    hckms:
        - key_id: tr-west-1:00000000-0000-0000-0000-000000000000
    lastmodified: "2026-11-25T01:02:03Z"
    version: 3.13.3
"""


def _check_metadata(data: bytes) -> str:
    found = read_encryption(data)
    assert len(found.recipients) <= 50
    assert len(set(found.recipients)) == len(found.recipients)
    for each in (*found.recipients, found.last_modified or "-", found.sops_version or "-"):
        assert each.isascii(), "not printable"
        assert each.isprintable(), "not printable"
        assert len(each) <= 2_600, "unbounded"
        assert "@" not in each, "userinfo"
    kinds = sorted({each.rsplit(" ", 1)[0][:16] for each in found.recipients})
    return f"{kinds} {found.last_modified is not None} {found.sops_version is not None}"


METADATA = Target(
    _check_metadata,
    (
        _YAML % AGE,
        b'{"a": 1, "sops": {"age": [{"recipient": "%s"}], "lastmodified": "2026-11-25T01:02:03+01:00", '
        b'"version": "3.9.0"}}' % AGE,
        b"A=ENC[x]\nsops_age__list_0__map_recipient=%s\nsops_version=3.13.3\nsops_pgp__list_0__map_fp=%s\n"
        % (AGE, b"A" * 40),
        b"[sops]\nage__list_0__map_recipient = ssh-ed25519 %s\nversion = 3.13.3\n" % (b"A" * 68),
    ),
    (
        b"recipient: ",
        b'"fp":"',
        b"\narn=",
        b"resource_id: ",
        b"vaultUrl: https://",
        b"vault_url=http://",
        b"vault_address: ",
        b"key_id: ",
        b"lastmodified: ",
        b"version: 3.1.",
        b" \t",
        b"age1",
        b"ssh-rsa ",
        b"user:password@",
        AGE,
        b"\x1b[31m",
        "é".encode(),
    ),
    max_bytes=64 * 1024,
)


# Values that may be SOPS files


def _check_values(data: bytes) -> str:
    format = format_of_content(data)
    text = data.decode("utf-8", "replace")
    found = find_ciphertext({"k": [text]})
    if format is not None and text.encode() == data:
        assert found == ("k", "[0]"), "a SOPS file that would reach the cluster"
    assert len(unescaped(text)) <= len(text)
    encoded = base64.b64encode(data).decode()
    if format is not None:
        assert decoded(encoded) == data
        assert find_ciphertext({"data": {"k": encoded}}) == ("data", "k")
    weak = [each.value for each in Format if is_mac_only_encrypted(data, each)]
    if b"mac_only_encrypted" not in data and b"\\" not in data and b"\0" not in data:
        assert not weak or b"mac_only_encrypted" in data.lower()
    names = with_carriage_returns((), data, Format.DOTENV) + with_carriage_returns((), data, Format.INI)
    assert all(name.isprintable() and len(name) <= 100 for name in names)
    return f"{format and format.value} {found} {holds_ciphertext(text)} {weak} {min(len(names), 3)}"


_SEALED = b"ENC[AES256_GCM,data:YWJj,iv:" + b"A" * 43 + b"=,tag:" + b"B" * 22 + b"==,type:str]"
_WEAK = (b"", b"mac_only_encrypted: true", b"MAC_only_encrypted: true", b"mac_only_encrypted: false")

VALUES = Target(
    _check_values,
    (
        *(b"a: %s\nsops:\n  mac: %s\n  %s\n" % (_SEALED, _SEALED, weak) for weak in _WEAK),
        *(b"a: b\nsops:\n  %s\n" % weak for weak in _WEAK),
        b'{"a": "%s", "sops": {"mac": "%s", "mac_only_encrypted": true}}' % (_SEALED, _SEALED),
        b'{"data": "%s", "sops": {"mac": "%s"}}' % (_SEALED, _SEALED),
        b'{"a": 1, "sops": {"mac_only_encrypted": 1}}',
        b"A=%s\nsops_mac=%s\nsops_mac_only_encrypted=true\n" % (_SEALED, _SEALED),
        b"A=1\r\nsops_mac=%s\r\n" % _SEALED,
        b"[a]\nb = %s\r\n[sops]\nmac = %s\nmac_only_encrypted = true\n" % (_SEALED, _SEALED),
        b"[a]\nb = %s\n[sops]\nmac = %s\n" % (_SEALED, _SEALED),
        _SEALED,
        b"x " + _SEALED,
        b"ENC[AES256_GCM,data:",
        b"it tells of ENC[AES256_GCM,data:",
        base64.b64encode(b"a: " + _SEALED),
        b"A=1\rB=2\r\nC=3\rD=4\r\n",
        b"A=1\r\n",
        b"a = 1\rx\n",
        b"sops:\n",
    ),
    (
        b"sops",
        b"sops:\n",
        b"[sops]",
        b"sops_mac=",
        b'"sops":{"mac":',
        b"mac_only_encrypted",
        b"true",
        b"false",
        b"\\u0045",
        b"\\x5f",
        b"\\\n",
        b"\r",
        b"\0",
        "\u2028".encode(),
        b"\xff\xfe",
        b"ENC[AES256_GCM,data:",
        b",iv:",
        b",tag:",
        _SEALED,
        base64.b64encode(_SEALED),
    ),
)


# The document splitter

_FORMATS = tuple(format for format in Format if format is not Format.BINARY)


def _check_documents(data: bytes) -> str:
    format, text = _FORMATS[data[0] % len(_FORMATS)] if data else Format.YAML, data[1:]
    try:
        found = parse_documents(text, format, max_documents=20)
    except JiemiError as error:
        assert error.__cause__ is None, "an error that carries the parser's"
        assert error.failure.reason in REASONS
        words = "".join(char for char in error.failure.text if not char.isdecimal())
        return f"{format.value} {error.failure.reason} {words}"
    assert len(found) <= 20
    for each in found:
        value = json.loads(each)
        assert json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() == each
        # What comes out is read as the same once more, in both formats: nothing is decided by chance.
        assert parse_documents(each, Format.JSON, max_documents=1) == (each,)
    return f"{format.value} {len(found)} {sorted({_shape(json.loads(each)) for each in found})}"


def _shape(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(sorted({_shape(each)[:12] for each in value.values()})) + "}"
    if isinstance(value, list):
        return "[" + ",".join(sorted({_shape(each)[:12] for each in value})) + "]"
    return type(value).__name__


DOCUMENTS = Target(
    _check_documents,
    (
        b"\x00apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData:\n  a: |\n    b\n    c\n---\nb: 'x'\n",
        b"\x00x: &x {k: v, z: 0}\ny: *x\nm:\n  <<: *x\n  z: 1 # one\n# two\nt: 2020-01-01\nn: 0x1F\n...\n---\n- 1\n",
        b'\x00%YAML 1.2\n---\n!!map {? a : !!str 1, "b\\u00e9": ~, c: >-\n  x\n  y\n}\n',
        b'\x00{"<<": [{"a": 1}], "b": [true, null, 1.5e3, "\\ud83d\\ude00"]}',
        b'\x01{"apiVersion": "v1", "kind": "Secret", "a": [1, -2, 3.5e-7, {"b": "c\\n"}, []]}',
        b'\x02{"A": "b", "C": "d"}',
        b'\x03{"section": {"a": "b"}}',
    ),
    (
        b"---\n",
        b"...\n",
        b"&a ",
        b"*a",
        b"<<: ",
        b"!!binary ",
        b"!!float ",
        b"!<tag:x,2000:y> ",
        b"? ",
        b": ",
        b"- ",
        b"[",
        b"]",
        b"{",
        b"}",
        b'"',
        b"'",
        b"|2-\n",
        b">+\n",
        b"%TAG ! tag:a,1:\n",
        b"\\UFFFFFFFF",
        b"\\ud800",
        b'\\"',
        b"\t",
        b"\n  ",
        b"\r\n",
        b"0x",
        b"1e999",
        b"9" * 30,
        b".nan",
        b"\xef\xbb\xbf",
        b"\xe2\x80\xa8",
        b"\xc2\x85",
        b"#",
        b",",
    ),
)


# Plain manifests


def _check_plain(data: bytes) -> str:
    format, whole = (Format.JSON if data[:1] == b"\x01" else Format.YAML), data[:1] == b"\x02"
    try:
        found = read_plain(data[1:], format, whole=whole, limits=PlainLimits(documents=20, bytes=1 << 20))
    except JiemiError as error:
        assert error.__cause__ is None, "an error that carries the parser's"
        assert error.failure.reason in REASONS
        return "".join(char for char in str(error) if not char.isdecimal())
    if found is None:
        return "sops is asked"
    assert len(found) <= 20
    assert not (found and whole)
    for each in found:
        value = json.loads(each)
        assert value is not None
        # Neither what sops encrypts nor its block is ever taken for plain.
        assert not (isinstance(value, dict) and "sops" in value)
        assert not _texts_with(value, ENCRYPTED)
        assert json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() == each
    return f"{len(found)} {sorted({_shape(json.loads(each)) for each in found})}"


def _texts_with(value: object, beginning: str) -> bool:
    if isinstance(value, dict):
        return any(_texts_with(each, beginning) for each in value.values())
    if isinstance(value, list):
        return any(_texts_with(each, beginning) for each in value)
    return isinstance(value, str) and value.lstrip().startswith(beginning)


PLAIN = Target(
    _check_plain,
    (
        *(b"\x00" + document for document in MANIFESTS),
        b"\x00a: ENC[AES256_GCM,data:x]\nsops:\n  mac: ENC[AES256_GCM,data:x]\n",
        b"\x00x: &x {sops: {}}\n<<: *x\n",
        b'\x01{"a": [1, 2.5e3, "x"], "sops": {}}',
        b"\x02a: |\n  ENC[AES256_GCM,data:x]\n",
    ),
    (*MANIFEST_TOKENS, b"sops", b"ENC[AES256_GCM,data:", b"\\x45NC[AES256_GCM,data:"),
    max_bytes=2_000,
)


# The guard

CANARY = "canary-7f3a"
SPEC_ROLE = "arn:aws:iam::111122223333:role/spec"
SPEC_VAULT = "https://vault.example:8200"
OPERATORS_VAULT = "https://vault.operator.example/prefix"
PINNED_VAULT = "https://pinned.example"
CONTEXT = (("a", "b"),)


def _age_key() -> AgeKey:
    import pyrage

    return AgeKey(SensitiveText(str(pyrage.x25519.Identity.generate())))


def _secret(name: str) -> SensitiveText:
    return SensitiveText(f"{CANARY}-{name}")


_OPEN: tuple[DecryptionKey, ...] = (
    _age_key(),
    PgpKey(_secret("pgp")),
    AwsKey(key_id=_secret("id"), access_key=_secret("key")),
    GcpKey(access_token=_secret("gcp")),
    AzureKey(client_secret=_secret("azure")),
    VaultKey(token=_secret("vault")),
    HuaweiKey(access_key=_secret("ak"), secret_key=_secret("sk"), project_id=_secret("p")),
)
_NAMED: tuple[DecryptionKey, ...] = (
    AgeKey(_secret("broken")),
    AwsKey(key_id=_secret("id"), access_key=_secret("key"), role_arn=SensitiveText(SPEC_ROLE), allowed_keys=(ARN,)),
    GcpKey(access_token=_secret("gcp"), allowed_keys=("projects/p/locations/*/keyRings/r/cryptoKeys/*",)),
    AzureKey(client_secret=_secret("azure"), allowed_vaults=("https://v.vault.azure.net",)),
    VaultKey(token=_secret("vault"), address=SensitiveText(SPEC_VAULT), allowed_keys=("transit/keys/*",)),
    HuaweiKey(
        access_key=_secret("ak"), secret_key=_secret("sk"), project_id=_secret("p"), allowed_keys=("tr-west-1:*",)
    ),
)
_AMBIENT: tuple[DecryptionKey, ...] = (AwsKey(), GcpKey(), AzureKey(), VaultKey())
_PINNED: tuple[DecryptionKey, ...] = (
    VaultKey(token=_secret("vault"), pinned_address=PINNED_VAULT),
    VaultKey(token=_secret("other"), allowed_keys=("transit/keys/k",)),
)
_SETTINGS = KrapaoSettings(
    state_dir=Path("/nonexistent"),
    max_key_requests=4,
    vault_addresses=(OPERATORS_VAULT,),
    operator=OperatorEnvironment(ambient={"aws": {}, "vault": {"VAULT_TOKEN": CANARY}}, bounds=lent("aws", "vault")),
)
_SCENES: tuple[tuple[tuple[DecryptionKey, ...], KrapaoSettings], ...] = (
    (_OPEN, _SETTINGS),
    (_NAMED, _SETTINGS),
    (_AMBIENT, _SETTINGS),
    (_PINNED, _SETTINGS),
    (_OPEN, attrs.evolve(_SETTINGS, require_named_vault=True, vault_addresses=())),
    ((), _SETTINGS),
)
_POLICIES: tuple[tuple[str, ...], ...] = ((), ("arn:aws:kms:*:111122223333:key/a", "https://vault.example:8200/**"))
_METHODS = (keyservice.DECRYPT, keyservice.DECRYPT, keyservice.DECRYPT, keyservice.ENCRYPT, "/KeyService/Other", "")
_BETWEEN = b"\xff\xfd\xfe"


class _AnyHolders:
    """Holders that answer anything, and remember what they were asked."""

    def __init__(self, generator: random.Random) -> None:
        self._generator = generator
        self.asked: list[tuple[HolderKey, str, bytes]] = []

    @contextlib.asynccontextmanager
    async def use(self, wanted: HolderKey, programs: HolderPrograms, askers: object = None) -> AsyncIterator[Held]:
        del programs
        await trio.lowlevel.checkpoint()
        if self._generator.random() < 0.1:
            raise JiemiError(self._generator.choice(("KeyHolderFailed", "KeyServiceDenied", "KeyInvalid")), "x")
        client: Any = _AnyClient(self, wanted, self._generator)
        yield Held(client, ("a key",), None, lambda: None, _dies, contextlib.nullcontext(), lambda: 0)

    def failed(self, wanted: HolderKey) -> None:
        del wanted


@attrs.frozen
class _AnyClient:
    holders: _AnyHolders
    wanted: HolderKey
    generator: random.Random

    async def call(self, path: str, message: bytes) -> bytes:
        self.holders.asked.append((self.wanted, path, message))
        match self.generator.randrange(7):
            case 0:
                await trio.sleep_forever()
            case 1:
                raise GrpcStatusError(UNKNOWN, "StatusCode: 403 " + CANARY)
            case 2:
                raise GrpcConnectionError
            case 3:
                return self.generator.randbytes(self.generator.randrange(50))
            case 4:
                return keyservice.write_decrypt_response(self.generator.randbytes(self.generator.randrange(80)))
        return keyservice.write_decrypt_response(self.generator.randbytes(self.generator.choice(DATA_KEY_BYTES)))


def _check_guard(data: bytes) -> str:
    scene, luck, method = (*data[:3], 0, 0, 0)[:3]
    policy, scene = divmod(scene, len(_SCENES))
    keys, settings = _SCENES[scene]
    return trio.run(
        _ask_guard,
        keys,
        settings,
        _POLICIES[policy % len(_POLICIES)],
        random.Random(luck),
        _METHODS[method % len(_METHODS)],
        data[3:].split(_BETWEEN),
        clock=trio.testing.MockClock(autojump_threshold=0),
    )


async def _require_by_name(url: str, rules: AddressRules, field: str) -> None:
    """Without a lookup: nothing here asks the net."""
    await trio.lowlevel.checkpoint()
    require_name(urlsplit(url).hostname or "", rules, field)


async def _ask_guard(
    keys: tuple[DecryptionKey, ...],
    settings: KrapaoSettings,
    policy: tuple[str, ...],
    generator: random.Random,
    method: str,
    messages: list[bytes],
) -> str:
    holders: Any = _AnyHolders(generator)
    programs = HolderPrograms(Path("/nonexistent"), None, Measures())
    services = KeyServices(holders, programs, settings, require_server=_require_by_name)
    guard = Guard(keys, services, allowed_recipients=policy)
    told: list[str] = []
    first: str | None = None
    for message in messages[:6]:
        before = len(holders.asked)
        try:
            answer = await guard.answer(method, message)
        except GrpcStatusError as error:
            assert CANARY not in error.text
            told.append(str(error.code))
        else:
            assert method == keyservice.DECRYPT
            assert len(keyservice.read_decrypt_response(answer)) in DATA_KEY_BYTES
            told.append("opened")
        for wanted, path, asked in holders.asked[before:]:
            assert method == path == keyservice.DECRYPT, "Encrypt passed"
            first = _check_forwarded(wanted, message, asked, keys, settings, first)
            if policy:
                passed = keyservice.read_decrypt_request(asked).key
                assert isinstance(passed, AwsMasterKey | VaultMasterKey), "a recipient that the policy does not list"
                assert "vault.example:8200" in repr(passed) or "111122223333:key/a'" in repr(passed)
    assert len(holders.asked) <= settings.max_key_requests * max(len(keys), 1)
    for outcome in guard.outcomes:
        shown = outcome.recipient + (outcome.failure.text if outcome.failure is not None else "")
        assert CANARY not in shown, "a credential in a message"
        assert shown.isprintable(), "not printable"
        told.append(f"{outcome.provider} {outcome.verdict.value}")
        told.append(shown.split(",")[0][:60] if outcome.failure is not None else "")
    return "; ".join(dict.fromkeys(told))[:400]


def _check_forwarded(
    wanted: HolderKey,
    message: bytes,
    asked: bytes,
    keys: tuple[DecryptionKey, ...],
    settings: KrapaoSettings,
    first: str | None,
) -> str | None:
    """Check one request that went to a holder; returns the Vault that is trusted because nobody names one."""
    request, passed = keyservice.read_decrypt_request(message), keyservice.read_decrypt_request(asked)
    assert request.key is not None
    assert passed.key is not None
    if isinstance(passed.key, VaultMasterKey):
        assert settings.addresses.refusal_of_name(urlsplit(passed.key.address).hostname or "") is None
    assert passed.ciphertext == request.ciphertext
    trust = VaultTrust(settings.vault_addresses, None, settings.require_named_vault, first)
    givers = [key for key in keys if HolderKey.of(key).key == wanted.key]
    judged = [judge(request.key, key, trust) for key in givers]
    assert passed.key in judged, "what was forwarded is not what was judged"
    assert not any(isinstance(each, Refusal) for each in judged if each == passed.key)
    match passed.key:
        case AwsMasterKey():
            assert passed.key.profile == ""
            assert passed.key.role in ("", SPEC_ROLE)
            assert passed.key.arn.split(":")[3].replace("-", "").isalnum(), "a region that is no name"
        case AzureMasterKey():
            url = passed.key.vault_url.lower()
            assert url.startswith("https://")
            host = url.removeprefix("https://")
            assert host.replace("-", "").replace(".", "").isalnum()
            assert host.rsplit(".", 2)[-2:] in (["azure", "net"], ["azure", "cn"], ["usgovcloudapi", "net"])
        case GcpMasterKey():
            assert ".." not in passed.key.resource_id.split("/")
        case VaultMasterKey():
            address = passed.key.address
            assert wanted.vault_address == address == normal_address(address)
            assert not {"..", ".", ""} & set(passed.key.engine_path.split("/"))
            named = {OPERATORS_VAULT} if settings.vault_addresses else set()
            for key in givers:
                assert isinstance(key, VaultKey)
                if key.ambient:
                    assert address in named, "Krapao's own token went where its operator did not say"
                elif key.address is not None:
                    assert address == SPEC_VAULT, "the token went elsewhere"
                elif key.pinned_address is not None:
                    assert address in named | {PINNED_VAULT}
                elif address not in named:
                    assert first in (None, address), "a second Vault without a name"
                    assert not settings.require_named_vault
                    first = address
    return first


def _write(key: keyservice.MasterKey) -> bytes:
    return keyservice.write_decrypt_request(DecryptRequest(key, b"wrapped"))


_KEYS: tuple[keyservice.MasterKey, ...] = (
    AgeMasterKey(AGE.decode()),
    PgpMasterKey("A" * 40),
    AwsMasterKey(ARN),
    AwsMasterKey(ARN, SPEC_ROLE, CONTEXT, "profile"),
    GcpMasterKey(RESOURCE),
    AzureMasterKey("https://v.vault.azure.net", "k", "0" * 32),
    VaultMasterKey(SPEC_VAULT, "transit", "k"),
    VaultMasterKey(OPERATORS_VAULT, "a/b", "k"),
    VaultMasterKey(PINNED_VAULT, "transit", "k"),
    HuaweiMasterKey(HUAWEI),
)
_REQUESTS = tuple(map(_write, _KEYS))

GUARD = Target(
    _check_guard,
    (
        *(bytes((scene, scene, 0)) + request for request in _REQUESTS for scene in range(len(_SCENES))),
        bytes((0, 5, 0)) + _BETWEEN.join(_REQUESTS[6:9]),
        bytes((3, 5, 0)) + _BETWEEN.join(_REQUESTS[6:9]),
        *(bytes((len(_SCENES), luck, 0)) + request for request in _REQUESTS for luck in range(3)),
        bytes((0, 5, 3)) + _REQUESTS[0],
        bytes((0, 5, 4)) + _REQUESTS[0],
    ),
    (
        _BETWEEN,
        b"@",
        b"..",
        b"/../",
        b"//",
        b".evil.example",
        b"https://",
        b"http://",
        b":443",
        b":0",
        b"#",
        b"?",
        b"%2e",
        b"\\",
        b"\n",
        b"\x0a\x05",
        b"\x12\x00",
        b"arn:aws:kms:evil.example/",
        b"[::1]",
        "é".encode(),
        SPEC_VAULT.encode(),
        OPERATORS_VAULT.encode(),
        SPEC_ROLE.encode(),
        *_REQUESTS,
    ),
    max_bytes=1024,
)


# Globs


def _check_globs(data: bytes) -> str:
    path, _, glob = data.decode("utf-8", "replace").partition("\0")
    names, parts = path.split("/"), [part for part in glob.split("/") if part not in ("", ".")]
    taken, excluded = matches_path(path, glob), is_excluded(path, [glob])
    assert taken == (_naive(names, parts) and not glob.endswith("/"))
    below = ["**", *parts] if parts and "/" not in glob.rstrip("/") else parts
    ends = range(1, len(names) if glob.endswith("/") else len(names) + 1)
    assert excluded == any(_naive(names[:end], below) for end in ends)
    assert not taken or excluded, "what is taken is left out by the same glob"
    shape = "/".join("**" if part == "**" else "*" * min(part.count("*"), 3) or "a" for part in parts[:6])
    return f"{taken} {excluded} {min(len(names), 6)} {shape}"


def _naive(names: list[str], parts: list[str]) -> bool:
    """The rules as they are told: which parts may have been used up after each name."""

    def with_none_used(places: set[int]) -> set[int]:
        for place in range(len(parts) - 1):
            if place in places and parts[place] == "**":
                places.add(place + 1)
        return places

    reached = with_none_used({0})
    for name in names:
        after: set[int] = set()
        for place in reached:
            if place < len(parts) and parts[place] == "**":
                after |= {place, place + 1}
            elif place < len(parts) and _naive_part(name, parts[place]):
                after.add(place + 1)
        reached = with_none_used(after)
    return len(parts) in reached and bool(names)


def _naive_part(name: str, part: str) -> bool:
    reached = {0}
    for piece in part:
        if piece == "*":
            reached = set(range(min(reached, default=len(name) + 1), len(name) + 1))
        else:
            reached = {place + 1 for place in reached if name[place : place + 1] == piece}
    return len(name) in reached


GLOBS = Target(
    _check_globs,
    (
        b"apps/a/b/x.enc.yaml\0apps/**/*.enc.yaml",
        b"apps/x.enc.yaml\0**/*.enc.*",
        b"vendor/a/b\0vendor/",
        b"a/README.md\0*.md",
        b"a/b\0./a//**",
        b"aXbXc/d\0a*b*c/*",
        b"a/a/a/a\0**/a/**/a",
        b"x\0/x",
    ),
    (b"**/", b"/**", b"*", b"/", b"./", b"//", b"\0", b"a", b"a*", b"*a", "ж".encode(), b"\xff"),
    max_bytes=400,
)


# Trees

_MAX_ENTRIES = 2_000


def _check_trees(data: bytes) -> str:
    """Trees that refer to one another by the first byte of a hash, in circles too."""
    raws = data.split(_BETWEEN)
    kinds: set[str] = set()

    def load(sha: str) -> bytes | None:
        number = int(sha[:2], 16)
        return None if number == 0xEE else raws[number % len(raws)]

    root, other = "00" * 20, "01" * 20
    changes = changes_between(root, other, load, max_entries=_MAX_ENTRIES)
    assert changes == changes_between(other, root, load, max_entries=_MAX_ENTRIES)
    for globs, exclude in ((("**",), ()), (("*/*", "**/a*"), ("b", "*.md", "a/b/"))):
        trees = Trees(root, load)
        try:
            found = trees.search(globs, exclude, max_entries=_MAX_ENTRIES, max_files=50)
        except JiemiError as error:
            assert error.failure.reason in ("LimitExceeded", "NotAFile")
            kinds.add("".join(char for char in error.failure.message[-60:] if char.isalpha() or char == " "))
            continue
        for path in found:
            name = path.rpartition("/")[2]
            assert name not in ("", ".", "..", ".git", ".sops.yaml")
            assert not {"..", ".git", ""} & set(path.split("/"))
            assert any(matches_path(path, glob) for glob in globs)
            assert not is_excluded(path, exclude)
        # What a search finds is what is read under that path.
        assert Trees(root, load).look_up({path: split_path(path) for path in found}, root) == found
        # Whoever would find something else in another tree is among those whom the difference concerns.
        if not trees.followed_links and not _is_concerned(changes, globs, exclude):
            with contextlib.suppress(JiemiError):
                there = Trees(other, load).search(globs, exclude, max_entries=_MAX_ENTRIES, max_files=50)
                assert there == found
        configs = {file.config is not None for file in found.values()}
        kinds.add(f"{min(len(found), 6)} {max((path.count('/') for path in found), default=0)} {sorted(configs)}")
    return "; ".join(sorted(kinds))


def _is_concerned(changes: Changes, globs: tuple[str, ...], exclude: tuple[str, ...]) -> bool:
    index = Interests()
    index.put(("namespace", "name"), Interest(globs, exclude))
    return bool(index.concerned(changes.paths, changes.folders))


def _entry(mode: bytes, name: bytes, first: int = 1) -> bytes:
    return mode + b" " + name + b"\0" + bytes([first]) + b"x" * 19


TREES = Target(
    _check_trees,
    (
        _entry(b"100644", b"a"),
        _entry(b"100644", b"a.md") + _entry(b"100755", b"b") + _entry(b"100664", b"c"),
        _entry(b"40000", b"a", 1) + _BETWEEN + _entry(b"100644", b"x") + _entry(b"100644", b".sops.yaml"),
        _entry(b"40000", b"a", 1) + _BETWEEN + _entry(b"40000", b"b", 2) + _BETWEEN + _entry(b"100644", b"ax"),
        _entry(b"40000", b"a", 0),
        _entry(b"40000", b"a", 0xEE) + _entry(b"120000", b"b") + _entry(b"160000", b"c"),
        _entry(b"100644", b"..") + _entry(b"100644", b".git") + _entry(b"100644", b"a/b") + _entry(b"100644", b"\xff"),
        _entry(b"100644", b"a") * 2 + _entry(b"40000", b"a"),
        b"".join(_entry(b"100644", b"%d" % number) for number in range(60)),
    ),
    (
        _BETWEEN,
        b"\0",
        b" ",
        b"100644 ",
        b"40000 ",
        b"040000 ",
        b"120000 ",
        b"/",
        b"\\",
        b"..",
        b".git",
        _entry(b"100644", b"a"),
        _entry(b"40000", b"a", 1),
        _entry(b"40000", b"b", 2),
        _entry(b"40000", b"c", 0),
        _entry(b"100644", b".sops.yaml", 3),
    ),
    max_bytes=2_000,
)

# Signatures: the first byte says what the rest is

_SIGNED = b"""tree 2222222222222222222222222222222222222222
parent 3333333333333333333333333333333333333333
author A <a@example.com> 1700000000 +0000
committer C <c@example.com> 1700000001 +0100
gpgsig -----BEGIN SSH SIGNATURE-----
 U1NIU0lHAAAAAQ==
 -----END SSH SIGNATURE-----
mergetag object 3333333333333333333333333333333333333333
 type commit

message
"""
_TAG = b"""object 2222222222222222222222222222222222222222
type commit
tag v1
tagger A <a@example.com> 1700000000 +0000

message
-----BEGIN PGP SIGNATURE-----

wsBz
-----END PGP SIGNATURE-----
"""
_SSH_KEY = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


def _check_commit(data: bytes) -> str:
    commit = read_commit(data, "1" * 40)
    assert commit.payload.startswith(f"tree {commit.tree}\n".encode())
    assert not any(line.startswith(b"gpgsig") for line in commit.payload.partition(b"\n\n")[0].split(b"\n"))
    kept = iter(data.splitlines(keepends=True))
    assert all(line in kept for line in commit.payload.splitlines(keepends=True)), "what is signed is not in the commit"
    return f"commit {min(len(commit.parents), 3)} {commit.signature is not None} {len(commit.payload).bit_length()}"


def _check_tag(data: bytes) -> str:
    tag = read_tag(data)
    assert data.startswith(f"object {tag.object}\n".encode())
    return f"tag {tag.type[:8]!r} {tag.signature is not None} {tag.tagger is not None}"


def _check_ssh_signature(data: bytes) -> str:
    require_good(read_signature(data), b"")
    raise AssertionError("a signature that nobody made is good")


def _check_allowed_signers(data: bytes) -> str:
    found = read_allowed_signers([PublicKeys("allowed_signers", data)])
    kinds = {(each.namespaces, each.valid_after is None, each.valid_before is None) for each in found.signers}
    return f"signers {min(len(found.signers), 4)} {min(found.left_out, 3)} {len(kinds)}"


def _check_armor(data: bytes) -> str:
    blocks = dearmored(data)
    assert sum(len(packets) for _, packets in blocks) <= len(data)
    tags = [packet_tags(packets)[:3] for _, packets in blocks][:3]
    return f"armor {min(len(blocks), 4)} {tags} {holds_private_key(data)}"


def _ssh_signature(namespace: bytes) -> bytes:
    key = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(32)
    made = b"\0\0\0\x0bssh-ed25519\0\0\0\x40" + bytes(range(64))
    parts = (key, namespace, b"", b"sha512", made)
    data = b"SSHSIG\0\0\0\1" + b"".join(len(each).to_bytes(4) + each for each in parts)
    return b"-----BEGIN SSH SIGNATURE-----\n" + base64.b64encode(data) + b"\n-----END SSH SIGNATURE-----\n"


_SIGNED_KINDS = (_check_commit, _check_tag, _check_ssh_signature, _check_allowed_signers, _check_armor)


def _check_signatures(data: bytes) -> str:
    kind = _SIGNED_KINDS[data[0] % len(_SIGNED_KINDS)] if data else _check_commit
    try:
        return kind(data[1:])
    except JiemiError as error:
        assert error.failure.reason in ("SignatureInvalid", "VerificationKeysInvalid"), error
        return f"{kind.__name__} {error.failure.message[:60]}"


SIGNATURES = Target(
    _check_signatures,
    (
        *(
            b"\0" + each
            for each in (_SIGNED, _SIGNED.replace(b"parent", b"author", 1), _SIGNED.partition(b"gpgsig")[0], b"")
        ),
        *(b"\1" + each for each in (_TAG, _TAG.partition(b"-----")[0], _TAG.replace(b"tag v1", b"tag", 1))),
        b"\2-----BEGIN SSH SIGNATURE-----\nU1NIU0lHAAAAAQ==\n-----END SSH SIGNATURE-----\n",
        b"\2" + _ssh_signature(b"git"),
        b"\2" + _ssh_signature(b"file"),
        *(
            b"\3ann %s" % each + _SSH_KEY + b"\n"
            for each in (b"", b'namespaces="git" ', b"cert-authority ", b'valid-after="20200101Z" ', b"x ")
        ),
        b"\3# nothing\n",
        b'\3"ann ' + _SSH_KEY,
        b"\3ann ssh-dss AAAAB3NzaC1kc3MAAAA=",
        b"\4" + _TAG,
        b"\4-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nxQEA\n-----END PGP PUBLIC KEY BLOCK-----\n",
        b"\4-----BEGIN OPENSSH PRIVATE KEY-----",
    ),
    (
        b"\n",
        b"\n\n",
        b"\n ",
        b"gpgsig ",
        b"gpgsig-sha256 ",
        b"tree ",
        b"parent ",
        b"author ",
        b"<",
        b">",
        b"-----BEGIN PGP SIGNATURE-----\n",
        b"-----END PGP SIGNATURE-----\n",
        b"-----BEGIN SSH SIGNATURE-----\n",
        b"AAAA",
        b'valid-before="2030"',
        b'"',
        b",",
        _SSH_KEY,
    ),
)

TARGETS = {
    "metadata": METADATA,
    "values": VALUES,
    "guard": GUARD,
    "documents": DOCUMENTS,
    "plain": PLAIN,
    "globs": GLOBS,
    "trees": TREES,
    "signatures": SIGNATURES,
    **host_targets.TARGETS,
    **pack_targets.TARGETS,
    **webhook_targets.TARGETS,
}


async def _dies() -> int:
    return -9
