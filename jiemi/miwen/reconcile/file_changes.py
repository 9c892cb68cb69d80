"""Which files a Decryptor names, and which of them have to be rendered."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

import attrs
import structlog

from jiemi.core.api.decryptor_status import DecryptorStatus, FileStatus
from jiemi.core.api.source import SourceSpec
from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.content.globs import advice, is_glob
from jiemi.core.content.tool_files import is_left_out
from jiemi.core.content.tool_files import listed as names_of
from jiemi.core.decisions.conditions import is_ready
from jiemi.core.decisions.interests import Interest
from jiemi.core.errors import Failure, JiemiError
from jiemi.core.memory import MemoryBudget
from jiemi.core.names import NamespacedName
from jiemi.core.near import some_of
from jiemi.miwen.reconcile.limits import no_room
from jiemi.miwen.reconcile.phases import Phase
from jiemi.miwen.reconcile.tick import ReconcileContext, ReconcileResult
from jiemi.miwen.state.loop_state import LoopState, files_bytes
from jiemi.rpc.contract import FilesRequest, Repository
from jiemi.rpc.source import Source, Submodules, TagRange

_log = structlog.get_logger("jiemi.miwen.reconcile")

_CONFIG_NAME = ".sops.yaml"


def path_in_tree(path: str) -> str:
    """A path as Krapao returns it: `./a//c/../b.yaml` is a/b.yaml."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def source_of(spec: DecryptorSpec) -> Source:
    """The repository and what is followed in it."""
    repository = spec.source.repository
    ref, followed = repository.ref, repository.submodules
    submodules = None if followed is None else Submodules(tuple(dict.fromkeys(map(str.lower, followed.hosts))))
    if ref is None:
        return Source(repository.url, submodules=submodules)
    if ref.commit is not None:
        return Source(repository.url, commit=ref.commit, submodules=submodules)
    tags = None if ref.semver is None else TagRange(ref.semver, ref.semver_filter)
    return Source(repository.url, ref.branch, ref.tag, name=ref.name, tags=tags, submodules=submodules)


def named_patterns(source: SourceSpec) -> tuple[str, ...]:
    """The paths and globs of the files that the spec names."""
    return ((source.file_to_decrypt,) if source.file_to_decrypt is not None else ()) + source.files


async def wanted_files(
    repository: Repository,
    revision: str,
    source: SourceSpec,
    *,
    on_left_out: Callable[[tuple[str, ...]], None] = lambda _: None,
    on_direct: Callable[[bool], None] = lambda _: None,
) -> tuple[FileStatus, ...]:
    """The files of a revision that the spec names, ordered by path.

    Args:
        on_left_out: called with the paths that its globs match, and that are files of a tool by their names.
        on_direct: called with whether it is known that no symbolic link leads to any of them.

    Raises:
        JiemiError: as `Repository.files`.
    """
    named = named_patterns(source)
    try:
        listed = await repository.files(FilesRequest(revision, _asked(source), source.exclude))
    except JiemiError as error:
        if error.failure.reason not in ("FileNotFound", "NotAFile"):
            raise
        field = _field_of(error.failure.path, source)
        raise JiemiError.of(error.failure.at(field) if field is not None else error.failure) from error
    on_direct(listed.direct)
    sops_path = path_in_tree(source.sops_path) if source.sops_path is not None else None
    config = next((entry.blob for entry in listed.entries if entry.path == sops_path), None)
    by_name = {path_in_tree(path) for path in named}
    globs = [path for path in source.files if is_glob(path)]
    files, left_out = [], []
    for entry in listed.entries:
        if entry.path in by_name:
            pass
        elif entry.path == sops_path or entry.path.rpartition("/")[2] == _CONFIG_NAME:
            continue  # no manifest, though a glob may match it
        elif is_left_out(entry.path, globs):
            left_out.append(entry.path)
            continue
        files.append(FileStatus(entry.path, entry.blob, config if config is not None else entry.config))
    on_left_out(tuple(left_out))
    return tuple(files)


def _named(source: SourceSpec) -> tuple[str, ...]:
    return ((source.file_to_decrypt,) if source.file_to_decrypt is not None else ()) + source.files


def _asked(source: SourceSpec) -> tuple[str, ...]:
    """The patterns that Krapao is asked for."""
    sops_path = (source.sops_path,) if source.sops_path is not None else ()
    return tuple(dict.fromkeys((*_named(source), *sops_path)))


def interest_of(source: SourceSpec) -> Interest:
    """What decides whether a push concerns the Decryptor."""
    patterns = tuple(each if is_glob(each) else path_in_tree(each) for each in _asked(source))
    return Interest(tuple(dict.fromkeys(patterns)), source.exclude)


def _field_of(path: str, source: SourceSpec) -> str | None:
    """The field that names a path, as it stands there; None where none does.

    Krapao knows the paths that it is asked for, and not which field has them.
    """
    fields = {source.file_to_decrypt: "spec.source.fileToDecrypt"}
    fields |= {each: f"spec.source.files[{number}]" for number, each in enumerate(source.files)}
    fields |= {source.sops_path: "spec.source.sopsPath"}
    return fields.get(path)


@attrs.frozen
class Todo:
    """What of the files there is to do.

    Attributes:
        files: all files that are wanted.
        render: the files that have to be rendered.
        removed_paths: the paths of the files that are deployed and no longer wanted.
        failed: by path, why a file fails again, because nothing that it depends on has changed since it failed.
        render_all: whether all files are rendered, whatever is deployed.
    """

    files: tuple[FileStatus, ...]
    render: tuple[FileStatus, ...]
    removed_paths: frozenset[str]
    failed: Mapping[str, Failure]
    render_all: bool

    @property
    def nothing(self) -> bool:
        return not self.render and not self.removed_paths and not self.failed

    @property
    def kept(self) -> frozenset[str]:
        """The paths of the files that stay as they are deployed."""
        return frozenset(file.path for file in self.files) - {file.path for file in self.render} - set(self.failed)


def todo(
    wanted: Collection[FileStatus],
    deployed: Iterable[FileStatus],
    *,
    render_all: bool,
    failed: Mapping[FileStatus, Failure],
) -> Todo:
    """What there is to do.

    Args:
        wanted: the files of the revision.
        deployed: the files that are deployed.
        render_all: whether files are rendered that have not changed.
        failed: the files that failed; they are tried again where everything is rendered.
    """
    known = frozenset(deployed)
    failed = {} if render_all else failed
    changed = [file for file in wanted if render_all or file not in known]
    return Todo(
        tuple(wanted),
        tuple(file for file in changed if file not in failed),
        frozenset(file.path for file in known) - {file.path for file in wanted},
        {file.path: failed[file] for file in changed if file in failed},
        render_all,
    )


def require_some(todo: Todo, spec: DecryptorSpec, left_out: Collection[str] = ()) -> None:
    """Refuse to go on where there is no file.

    Args:
        left_out: the paths that globs match, and that are files of a tool by their names.

    Raises:
        JiemiError: NothingToApply.
    """
    if not todo.files and not spec.allow_empty:
        hint = advice(spec.source.files)
        but = f" but files of tools, which are left out ({names_of(left_out)})" if left_out else ""
        raise JiemiError(
            "NothingToApply",
            f"spec.source.files matches no file of the revision{but} ({some_of('', spec.source.files)}); what was "
            "applied stays",
            f"Correct spec.source.files and exclude, or set spec.allowEmpty if it is meant. {hint}".rstrip(),
        )


@attrs.frozen
class FileChanges:
    """Finds the files of Decryptors and what there is to do with them, and counts the memory that they take.

    Attributes:
        budget: what Decryptors may hold in memory.
    """

    budget: MemoryBudget

    async def files(
        self, context: ReconcileContext, spec: DecryptorSpec, repository: Repository, revision: str, *, resync: bool
    ) -> tuple[FileStatus, ...]:
        """The files of a revision; those that are known already are not asked for again."""
        known, state = context.status, context.state
        if not resync and known.current.revision == revision and is_ready(known, context.generation):
            return known.files
        if not resync and context.repositories.is_unchanged(revision) and is_ready(known, context.generation):
            state.files.carry_on(revision, context.generation)
            return known.files
        if state.files.listed is None or state.files.listed[:2] != (revision, context.generation):
            found: list[bool] = []
            files = await self.wanted(context, spec, repository, revision, on_direct=found.append)
            state.files.keep_listed(revision, context.generation, files, direct=any(found))
            return files
        return state.files.listed[2]

    async def wanted(
        self,
        context: ReconcileContext,
        spec: DecryptorSpec,
        repository: Repository,
        revision: str,
        *,
        on_direct: Callable[[bool], None] = lambda _: None,
    ) -> tuple[FileStatus, ...]:
        """The files of a revision. Their memory counts from here on: many Decryptors may hold them and wait for their
        turn.

        Args:
            on_direct: as for `wanted_files`.

        Raises:
            JiemiError: NamespaceLimitExceeded; as `wanted_files`.
        """
        key = context.decryptor.meta.key

        def on_left_out(paths: tuple[str, ...]) -> None:
            if paths and paths != context.state.files.left_out:
                text = (
                    f"not applied, because by their names they are files of tools, and no objects: {names_of(paths)}. "
                    "Jiemi runs neither kustomize nor Helm; name a file itself in spec.source.files to have it applied"
                )
                context.note("FilesLeftOut", "List", text)
            context.state.files.keep_left_out(paths)

        with context.phases.measured(Phase.FILES):
            files = await wanted_files(repository, revision, spec.source, on_left_out=on_left_out, on_direct=on_direct)
        if not self.budget.take(key[0], held_files(key), files_bytes(files)):
            context.state.files.forget_files()
            raise JiemiError.of(no_room(self.budget, key[0]))
        return files

    def count_held(self, key: NamespacedName, state: LoopState, known: DecryptorStatus) -> None:
        """Count the memory that a loop holds for files until its next tick. Files for which there is no room are
        forgotten."""
        if not self.budget.take(key[0], held_files(key), state.files.count_bytes(known)):
            state.files.forget_files()

    def settled(
        self, context: ReconcileContext, result: ReconcileResult, failure: Failure | None
    ) -> tuple[str, Interest] | None:
        """The revision whose files are deployed, and what decides whether a later one concerns them. None where that is
        not certain, or there is no memory for it: then every move of the repository concerns the Decryptor.

        Args:
            result: what the tick came to.
            failure: what went wrong in it or after it, or None.
        """
        spec, generation, key = context.decryptor.spec, context.generation, context.decryptor.meta.key
        revision = context.state.head_revision
        is_settled = (
            isinstance(spec, DecryptorSpec)
            and spec.mode == "Apply"
            and failure is None
            and result.conclusive
            and is_ready(result.status, generation)
            and revision is not None
            and context.state.files.is_direct(revision, generation)
        )
        if not is_settled:
            self.budget.give_back(_held_interest(key))
            return None
        assert isinstance(spec, DecryptorSpec) and revision is not None  # noqa: S101, PT018 - narrows the types
        interest = interest_of(spec.source)
        if not self.budget.take(key[0], _held_interest(key), interest.held_bytes):
            return None
        return revision, interest

    def give_back(self, key: NamespacedName) -> None:
        """Count the files of a loop no longer."""
        self.budget.give_back(held_files(key))
        self.budget.give_back(_held_interest(key))

    def todo(
        self,
        context: ReconcileContext,
        spec: DecryptorSpec,
        files: tuple[FileStatus, ...],
        *,
        resync: bool,
    ) -> Todo:
        state = context.state
        state.files.keep_failed_of(files)
        work = todo(files, context.status.files, render_all=resync, failed=state.files.failed)
        if spec.target is not None and not resync and (work.render or work.removed_paths):
            # Its keys come from several files.
            work = todo(files, context.status.files, render_all=True, failed=state.files.failed)
        _log.debug(
            "files_compared",
            files=len(work.files),
            to_render=len(work.render),
            removed=len(work.removed_paths),
            failed_before=len(work.failed),
            resync=resync,
        )
        return work


def try_again(context: ReconcileContext) -> None:
    """Something that the files depend on has changed: render those too that failed."""
    context.state.files.try_failed_again()


def note_rendered(context: ReconcileContext, failed: Mapping[FileStatus, Failure], *, is_large: bool) -> None:
    """Remember what became of files that were rendered.

    Args:
        failed: those that fail again until something that they depend on changes, and why.
        is_large: whether they take so much memory that no two such Decryptors are decrypted at once.
    """
    context.state.files.add_failed(failed)
    context.state.files.set_large(is_large)


def note_planned(context: ReconcileContext, files: tuple[FileStatus, ...]) -> None:
    """Remember that status.plan is about these files and this generation of the spec."""
    context.state.files.keep_planned(context.generation, files)


def _held_interest(key: NamespacedName) -> tuple[str, NamespacedName]:
    """The name in the budget for what the index of interests holds of a Decryptor."""
    return "interest", key


def held_files(key: NamespacedName) -> tuple[str, NamespacedName]:
    """The name in the budget for the files that a Decryptor's loop remembers."""
    return "files", key
