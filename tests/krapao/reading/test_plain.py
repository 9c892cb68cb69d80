"""Files that are not encrypted are read as they are, and nothing that sops made is ever taken for one."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.content.ciphertext import ENCRYPTED
from jiemi.core.content.formats import Format, format_of
from jiemi.core.errors import JiemiError
from jiemi.krapao.reading.kubectl_yaml.stream import read_stream
from jiemi.krapao.reading.plain import PlainLimits, read_plain

DATA = Path(__file__).parents[2] / "data"
SEALED = ENCRYPTED + "YQ==,iv:YQ==,tag:YQ==,type:str]"
SAMPLES = sorted(path for path in DATA.glob("sops-*/*") if path.is_file())


def read(data: bytes | str, format: Format, *, whole: bool = False) -> list[object] | None:
    found = read_plain(
        data.encode() if isinstance(data, str) else data,
        format,
        whole=whole,
        limits=PlainLimits(documents=10, bytes=1 << 20),
    )
    return None if found is None else [json.loads(each) for each in found]


def refused(data: bytes | str, format: Format, *, whole: bool = False) -> str:
    with pytest.raises(JiemiError) as caught:
        read(data, format, whole=whole)
    return str(caught.value)


@pytest.mark.parametrize(
    ("data", "format", "documents"),
    [
        ("a: 1\n---\n---\nb: [x, null]\n", Format.YAML, [{"a": 1}, {"b": ["x", None]}]),
        ("", Format.YAML, []),
        ("# nothing\n", Format.YAML, []),
        ("- a\n", Format.YAML, [["a"]]),
        ('{"a": {"sops": {"mac": "x"}}}', Format.JSON, [{"a": {"sops": {"mac": "x"}}}]),
        ("a:\n  sops: {}\nsops-x: 1\nmy_sops: 2\n", Format.YAML, [{"a": {"sops": {}}, "sops-x": 1, "my_sops": 2}]),
        (f"a: 'it begins with {SEALED}'\n", Format.YAML, [{"a": f"it begins with {SEALED}"}]),
        ("a: ENC[something else]\n", Format.YAML, [{"a": "ENC[something else]"}]),
        ("A=b\n#c\n\nD=e=f\\ng\nH=\n", Format.DOTENV, [{"A": "b", "D": "e=f\ng", "H": ""}]),
        ("A= 'b' \r\n", Format.DOTENV, [{"A": " 'b' \r"}]),
        ("", Format.DOTENV, [{}]),
        ("MY_sops_a=1\n", Format.DOTENV, [{"MY_sops_a": "1"}]),
    ],
)
def test_a_plain_file_comes_as_its_documents(data: str, format: Format, documents: list[object]) -> None:
    assert read(data, format) == documents
    assert read(data, format, whole=True) == []


@pytest.mark.parametrize(
    ("data", "format"),
    [
        ("[a]\nb = c\n", Format.INI),
        ("[sopsy]\nb = c\n", Format.INI),
        (b"\x00\xff\x7fELF", Format.BINARY),
        ('{"data": "x"}', Format.BINARY),
        ('{"a": {"sops": {}}}', Format.BINARY),
        ("{{ sops is a word }}", Format.BINARY),
        ("", Format.BINARY),
        ("{{ a template }}: [", Format.YAML),
        ("{ not json", Format.JSON),
        ("no equals sign\n", Format.DOTENV),
        (b"A=\xff\n", Format.DOTENV),
    ],
)
def test_a_file_that_is_wanted_whole_need_not_be_of_its_format(data: bytes | str, format: Format) -> None:
    assert read(data, format, whole=True) == []


@pytest.mark.parametrize(
    ("data", "format", "why"),
    [
        ("a: [", Format.YAML, "UnknownFormat: document 1, line 2: it is not YAML"),
        ("a: 1\na: 2\n", Format.YAML, "UnknownFormat: document 1, line 2: the same key twice"),
        ("{", Format.JSON, "UnknownFormat: its content is not JSON: line 1"),
        ('{"a": 1, "b": [}', Format.JSON, "UnknownFormat: its content is not JSON: line 1, column 16"),
        ('{"a": 1,\n"a": 2,}', Format.JSON, "UnknownFormat: document 1, line 2: the same key twice"),
        (b"{\xff}", Format.BINARY, ""),
        ("---\n" * 5 + "a\n---\n" * 11, Format.YAML, "LimitExceeded: the file has more than 10 documents"),
        ("A=1\nB\n", Format.DOTENV, "UnknownFormat: line 2 of the file is neither"),
        ("A=1\nA=2\n", Format.DOTENV, "UnknownFormat: line 2 of the file gives a name for the second time"),
        (b"A=\xff\n", Format.DOTENV, "UnknownFormat: line 1 of the file is not UTF-8"),
        ("[a]\nb = c\n", Format.INI, "UnknownFormat: a plain INI file can only be put whole"),
    ],
)
def test_what_is_not_of_its_format_is_reported_without_its_content(data: bytes | str, format: Format, why: str) -> None:
    if why:
        assert refused(data, format).startswith(why)
    else:
        assert read(data, format) == []


@pytest.mark.parametrize("format", [Format.YAML, Format.JSON, Format.DOTENV, Format.INI, Format.BINARY])
@pytest.mark.parametrize("whole", [False, True])
def test_a_pointer_of_git_lfs_is_no_content(format: Format, whole: bool) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n"
    assert refused(pointer, format, whole=whole).startswith("NotEncrypted: the file is a pointer of Git LFS")


def test_what_another_tool_has_encrypted_is_taken_where_the_file_itself_is_wanted_alone() -> None:
    vault = "$ANSIBLE_VAULT;1.1;AES256\n6162\n"
    assert refused(vault, Format.YAML).startswith("NotEncrypted: the file is encrypted by Ansible Vault")
    assert read(vault, Format.BINARY, whole=True) == []


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: f"{path.parent.name}-{path.name}")
@pytest.mark.parametrize("whole", [False, True])
def test_no_file_of_any_release_of_sops_is_taken_for_plain(path: Path, whole: bool) -> None:
    assert read(path.read_bytes(), format_of(path.name), whole=whole) is None


def _without_metadata(data: bytes, format: Format) -> bytes:
    match format:
        case Format.YAML:
            return re.sub(rb"^sops:\n(?:[ \t].*\n|\n)*", b"", data, flags=re.MULTILINE)
        case Format.DOTENV:
            return re.sub(rb"^sops_.*\n", b"", data, flags=re.MULTILINE)
        case Format.INI:
            return data.partition(b"[sops]")[0]
    tree = json.loads(data)
    del tree["sops"]
    return json.dumps(tree).encode()


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: f"{path.parent.name}-{path.name}")
@pytest.mark.parametrize("whole", [False, True])
def test_a_file_whose_metadata_was_lost_is_refused(path: Path, whole: bool) -> None:
    format = format_of(path.name)
    data = _without_metadata(path.read_bytes(), format)
    assert b"lastmodified" not in data
    expected = "NotEncrypted: it has encrypted values but no SOPS metadata. Restore the `sops` block"
    assert refused(data, format, whole=whole).startswith(expected)


@pytest.mark.parametrize(
    ("data", "format"),
    [
        (f"a: {SEALED}\n", Format.YAML),
        (f"a: [{{b: '{SEALED}'}}]\n", Format.YAML),
        (f"a: |\n  {SEALED}\n", Format.YAML),
        (f"a: >-\n\n  {SEALED}\n", Format.YAML),
        (f"a: 1\n---\nb: {SEALED}\n", Format.YAML),
        (f"{SEALED}\n", Format.YAML),
        (f'a: "{SEALED.replace("E", chr(92) + "x45")}"\n', Format.YAML),
        (f"a: 1 # {SEALED}\n", Format.YAML),
        (f"#{SEALED}\na: 1\n", Format.YAML),
        (f"a: [{SEALED}\n", Format.YAML),
        (f"a: 1\na: {SEALED}\n", Format.YAML),
        (f"a: !!binary {base64.b64encode(SEALED.encode()).decode()}\n", Format.YAML),
        (f"a: !x {SEALED}\n", Format.YAML),
        (f"a: &x {SEALED}\nb: *x\n", Format.YAML),
        (f"a: 1\n...\nb: {SEALED}\n", Format.YAML),
        (f"a: 1\n--- b: {SEALED}\n", Format.YAML),
        (f"a: '\n\n  {SEALED}'\n", Format.YAML),
        (f'{{"a": 1}}{{"b": "{SEALED}"}}', Format.YAML),
        (json.dumps({"a": [SEALED]}), Format.JSON),
        (json.dumps({"a": SEALED}).replace("ENC", "\\u0045NC"), Format.JSON),
        (json.dumps({"a": SEALED}) + "x", Format.JSON),
        (json.dumps({"data": SEALED}), Format.BINARY),
        (SEALED, Format.BINARY),
        (f"A={SEALED}\n", Format.DOTENV),
        (f"A = '{SEALED}'\n", Format.DOTENV),
        (f"#{SEALED}\nA=b\n", Format.DOTENV),
        (f"[a]\nb={SEALED}\n", Format.INI),
        (f"[a]\nb : `{SEALED}`\n", Format.INI),
        (f"[a]\n;{SEALED}\nb = c\n", Format.INI),
    ],
)
@pytest.mark.parametrize("whole", [False, True])
def test_a_value_that_is_encrypted_is_seen_wherever_it_hides(data: str, format: Format, whole: bool) -> None:
    assert refused(data, format, whole=whole).startswith("NotEncrypted: it has encrypted values")


@pytest.mark.parametrize(
    ("data", "format"),
    [
        ("a: {}\nsops: {{}}\n", Format.YAML),
        ("sops:\n  mac: {}\n", Format.YAML),
        ("? sops\n: {}\n", Format.YAML),
        ('"sops": {}\n', Format.YAML),
        ('"\\x73ops": {}\n', Format.YAML),
        ("a: {}\n---\nsops: null\n", Format.YAML),
        ("{{a: '{}', sops: {{}}}}\n", Format.YAML),
        ("a: [\nsops:\n  mac: {}\n", Format.YAML),
        ("#{}\nsops: {{}}\n", Format.YAML),
        ("a: {}\rsops: {{}}\r", Format.YAML),
        ("a: {}\u0085sops: {{}}\u0085", Format.YAML),
        ("a: {}\u2028sops: {{}}\n", Format.YAML),
        ("x: &x {{sops: {{}}}}\n<<: *x\nb: {}\n", Format.YAML),
        ("a: {}\n---\n{{sops: {{}}}}\n", Format.YAML),
        ('{{"a": "{}"}}{{"sops": {{}}}}', Format.YAML),
        ('{{"a": "{}"}}{{"sops": {{}}}}', Format.JSON),
        ("!!str sops: {}\n", Format.YAML),
        ("!!binary c29wcw==: {}\n", Format.YAML),
        ('{{"\\u0073ops": "{}"}}', Format.JSON),
        ('{{"a": "{}", "sops": null}}', Format.JSON),
        ('{{"data": "{}", "sops": {{}}}}', Format.BINARY),
        ("A={}\nsops_version=1\n", Format.DOTENV),
        ("sops_mac={}\n", Format.DOTENV),
        ("[sops]\nmac = {}\n", Format.INI),
        ("[a]\nb={}\n  [ sops ]\n", Format.INI),
    ],
)
@pytest.mark.parametrize("whole", [False, True])
def test_sops_is_asked_about_what_has_both_its_marks_and_one_of_them_is_refused(
    data: str, format: Format, whole: bool
) -> None:
    assert read(data.format(SEALED), format, whole=whole) is None
    without = data.format("x")
    if without.startswith("a: ["):  # which can't be read to tell
        assert read(without, format, whole=whole) is None
    else:
        assert refused(without, format, whole=whole).startswith("NotEncrypted: it has `sops` at its top, but nothing")


@pytest.mark.parametrize(
    ("data", "format"),
    [
        ("a: 1\n".encode("utf-16"), Format.YAML),
        (b'{"a": "\xff", "sops": {}}', Format.JSON),
        (b'{"a": 1, "sops": {}', Format.JSON),
        (b"a: 1\na: 2\nsops: 1\n", Format.YAML),
    ],
)
@pytest.mark.parametrize("whole", [False, True])
def test_sops_is_asked_about_what_can_not_be_read_here(data: bytes, format: Format, whole: bool) -> None:
    assert read(data, format, whole=whole) is None


@given(
    st.sampled_from(list(Format)),
    st.binary(max_size=60) | st.text("aA:=#{}[]\"'\n -sopENC_,", max_size=40),
    st.booleans(),
)
def test_any_bytes_are_plain_or_not_or_refused_with_a_reason(format: Format, data: bytes | str, whole: bool) -> None:
    raw = data.encode() if isinstance(data, str) else data
    try:
        found = read_plain(raw, format, whole=whole, limits=PlainLimits(documents=10, bytes=1 << 20))
    except JiemiError as error:
        assert error.__cause__ is None
        assert error.failure.reason in {"NotEncrypted", "UnknownFormat", "LimitExceeded"}
        return
    if found and format in (Format.YAML, Format.JSON):
        assert found == read_stream(raw, max_documents=10, max_bytes=1 << 20)
    assert not (found and whole)


@given(st.sampled_from([Format.YAML, Format.JSON]), st.dictionaries(st.text("abs.", min_size=1), st.text("abE[\n# ")))
def test_what_is_written_as_json_is_read_as_it_was(format: Format, content: dict[str, str]) -> None:
    assert read(json.dumps(content), format) == [content]


# --- files that hold SOPS files as values


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_plain_secret_with_a_sops_file_as_block_text_is_plain(path: Path) -> None:
    block = "".join(f"    {line}\n" for line in path.read_text().splitlines())
    text = f"kind: Secret\nstringData:\n  # a comment\n  a: |\n    #ENC[AES256_GCM,data:x\n{block}"
    [found] = read(text, Format.YAML) or [None]
    assert isinstance(found, dict)
    assert found["stringData"]["a"] == "#ENC[AES256_GCM,data:x\n" + path.read_text().rstrip("\n") + "\n"
    assert read(json.dumps(found), Format.JSON) == [found]


def test_an_encrypted_comment_beside_such_a_value_is_still_one() -> None:
    text = f"#{SEALED}\nkind: Secret\nstringData:\n  a: |\n    #{SEALED}\n"
    assert "encrypt the values again" in refused(text, Format.YAML)
    assert read(text.split("\n", 1)[1], Format.YAML) == [{"kind": "Secret", "stringData": {"a": f"#{SEALED}\n"}}]


@pytest.mark.parametrize(("name", "ending"), [("all.yaml", "yaml"), ("all.env", "dotenv"), ("all.ini", "ini")])
def test_a_sops_file_whose_name_states_another_format_is_refused_with_the_format_that_it_has(
    name: str, ending: str
) -> None:
    data = (DATA / "sops-3.12.2" / name).read_bytes()
    said = refused(data, Format.BINARY, whole=True)
    assert f"sops has encrypted it as {ending}" in said
    assert f"State {ending} in spec.source.format, or give it an ending that states it" in said


def test_an_empty_line_with_a_carriage_return_is_reported_as_what_it_is() -> None:
    assert "line 2 of the file is a carriage return: the file has line ends of Windows (CR LF)" in refused(
        "A=1\r\n\r\nB=2\r\n", Format.DOTENV
    )
