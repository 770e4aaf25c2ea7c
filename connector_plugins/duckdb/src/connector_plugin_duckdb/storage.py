"""Files and folders at local paths and in object stores, as far as the operator allows them."""

import contextlib
import importlib
import os
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from fsspec.callbacks import Callback  # type: ignore[import-untyped]
from fsspec.registry import known_implementations  # type: ignore[import-untyped]

from connector_core.errors import BackendUnavailableError, ConnectorError, InvalidInputError, PermissionDeniedError
from connector_core.secrets import get_secret
from connector_core.tables import read_table
from connector_plugin_duckdb.config import SECTION, DuckDBConfig, SecretRef
from connector_plugin_duckdb.stop import Stop

_EXTRAS = {"s3": "s3", "gs": "gcs"}
_NAMELESS = frozenset({".csv", ".parquet", ".json"})
"""flytekit's name for the file of a table, by format."""


@dataclass(frozen=True, slots=True)
class _Object:
    """A place in an object store."""

    protocol: str
    path: str


class Storage:
    """Brings inputs to the host and results away from it; usable from several threads."""

    def __init__(self, config: DuckDBConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._filesystems: dict[str, Any] = {}

    def local(self, path: str | Path) -> Path:
        """Return where a local path really is.

        Raises:
            PermissionDeniedError: it is in none of the allowed directories, be it by a symbolic link.
            InvalidInputError: it is not a path.
        """
        if "\0" in str(path):
            raise InvalidInputError("a local path has a NUL in it")
        real = Path(path).resolve()
        if not any(real.is_relative_to(folder.resolve()) for folder in self._config.allowed_directories):
            raise PermissionDeniedError(
                f"the local path {str(path)!r} is in none of the allowed_directories of {SECTION}: give one that is, or have "
                "the operator of the host add its folder there"
            )
        return real

    def fetch(self, uri: str, folder: Path, suffix: str, stop: Stop) -> list[Path]:
        """Return the local files that are at a URI: a single one, or all that are below it.

        What is in an object store is copied into `folder`; what is local stays where it is. Files whose name begins with
        a dot or an underscore are left out, as is usual for tables (`_SUCCESS`).

        Raises:
            InvalidInputError: there is nothing, or more than the disk limit.
            PermissionDeniedError: the operator does not allow this place, or the object store refuses.
            BackendUnavailableError: the object store does not answer.
        """
        place = self._locate(uri)
        if isinstance(place, Path):
            return _local_files(place, uri)
        return self._download(place, uri, folder, suffix, stop)

    def store(self, source: Path, uri: str, stop: Stop) -> None:
        """Copy a local file to a URI.

        Raises:
            PermissionDeniedError, InvalidInputError, BackendUnavailableError: as `fetch` does.
        """
        place = self._locate(uri)
        if isinstance(place, Path):
            _copy(source, place)
            return
        with _Translated(f"write {uri}", stop):
            self._filesystem(place.protocol).put_file(str(source), place.path, callback=_Stopping(stop))

    def check_output(self, uri: str) -> None:
        """Raise an error unless a folder may be, or be made, at this URI.

        Raises:
            PermissionDeniedError: the operator does not allow this place.
            InvalidInputError: a file is in the way, or it is not a path that can be made.
        """
        place = self._locate(uri)
        if isinstance(place, Path):
            _check_folder(place, uri)

    def _locate(self, uri: str) -> Path | _Object:
        scheme, separator, rest = uri.partition("://")
        if not separator:
            return self.local(uri)
        if scheme == "file":
            path = f"/{rest.lstrip('/')}"
            # `connector-host run` and browsers encode what flytekit leaves as it is.
            return self.local(path if "%" not in path or os.path.lexists(path) else unquote(path))
        if scheme not in _EXTRAS or "::" in uri or ".." in rest.split("/"):
            raise PermissionDeniedError(f"{uri!r} is not a supported place; use s3://, gs:// or a local path")
        if not any(_is_below(uri, prefix) for prefix in self._config.allowed_uris):
            raise PermissionDeniedError(
                f"{uri!r} is below none of the allowed_uris of {SECTION}; the operator of the host can add "
                f'"{scheme}://{rest.partition("/")[0]}/" there'
            )
        return _Object(scheme, rest)

    def _download(self, place: _Object, uri: str, folder: Path, suffix: str, stop: Stop) -> list[Path]:
        with _Translated(f"read {uri}", stop):
            filesystem = self._filesystem(place.protocol)
            files = _listing(filesystem, place.path)
            self._check_size(uri, files)
            found = []
            for index, (remote, relative) in enumerate(_relative(files, place.path)):
                target = folder / relative.parent / f"{index:05}{suffix or relative.suffix}"
                target.parent.mkdir(parents=True, exist_ok=True)
                filesystem.get_file(remote, str(target), callback=_Stopping(stop))
                found.append(target)
        return _not_empty(found, uri)

    def _check_size(self, uri: str, files: Mapping[str, int]) -> None:
        size = sum(files.values())
        if size > self._config.disk_limit:
            raise InvalidInputError(
                f"{uri} has {size} bytes; the disk_limit of {SECTION} is {int(self._config.disk_limit)}",
                error_code="DISK_LIMIT_EXCEEDED",
            )

    def _filesystem(self, protocol: str) -> Any:
        with self._lock:
            if (filesystem := self._filesystems.get(protocol)) is None:
                filesystem = self._filesystems[protocol] = self._connect(protocol)
        return filesystem

    def _connect(self, protocol: str) -> Any:
        given = self._config.storage_options.get("s3" if protocol == "s3" else "gs", {})
        options = {name: _resolved(value) for name, value in given.items()}
        try:
            # Listings are not kept: what another task wrote a second ago has to be seen.
            return _class_of(protocol)(skip_instance_cache=True, use_listings_cache=False, **options)
        except ImportError as error:
            extra = _EXTRAS[protocol]
            raise BackendUnavailableError(
                f"{protocol}:// needs a package that this host lacks ({error}); "
                f'install it with: pip install "connector-plugin-duckdb[{extra}]"'
            ) from None


def _class_of(protocol: str) -> Any:
    """Return fsspec's own class for a protocol: other plugins on a host register theirs, for the whole process.

    Raises:
        ImportError: the package that has it is not installed.
    """
    module, _, name = known_implementations[protocol]["class"].rpartition(".")
    return getattr(importlib.import_module(module), name)


class _Stopping(Callback):  # type: ignore[misc]
    """Ends a transfer between two of its parts when the query has to stop."""

    def __init__(self, stop: Stop) -> None:
        super().__init__()
        self._stop = stop

    def call(self, hook_name: str | None = None, **kwargs: Any) -> None:
        """Look at the stop whenever fsspec reports progress."""
        self._stop.check()
        super().call(hook_name, **kwargs)


class _Translated:
    """Turns what an object store's client raises into what a connector raises."""

    def __init__(self, what: str, stop: Stop) -> None:
        self._what = what
        self._stop = stop

    def __enter__(self) -> None:
        self._stop.check()

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if error is None or isinstance(error, ConnectorError) or not isinstance(error, Exception):
            return
        self._stop.check()
        if isinstance(error, FileNotFoundError):
            raise InvalidInputError(f"cannot {self._what}: it is not there ({error})") from error
        if isinstance(error, PermissionError):
            raise PermissionDeniedError(f"cannot {self._what}: {error}") from error
        raise BackendUnavailableError(f"cannot {self._what}: {type(error).__name__}: {error}") from error


def _resolved(value: Any) -> Any:
    if isinstance(value, Mapping) and "secret" in value:
        reference = read_table(SecretRef, value, f"{SECTION} storage_options")
        return get_secret(reference.secret, reference.group).get_secret_value()
    return value


def _is_below(uri: str, prefix: str) -> bool:
    return uri == prefix or uri.startswith(prefix if prefix.endswith("/") else f"{prefix}/")


def _listing(filesystem: Any, path: str) -> dict[str, int]:
    """Return the sizes of the files at or below a path."""
    info = filesystem.info(path)
    if info["type"] == "file":
        return {info["name"]: int(info["size"] or 0)}
    return {name: int(one["size"] or 0) for name, one in sorted(filesystem.find(path, detail=True).items())}


def _relative(files: Mapping[str, int], path: str) -> list[tuple[str, PurePosixPath]]:
    """Return each file that counts with its place below `path`, which has to be one that can be made on this host."""
    kept = []
    for name in files:
        below = PurePosixPath(name.removeprefix(path.rstrip("/")).lstrip("/") or PurePosixPath(name).name)
        if len(files) > 1 and _is_hidden(below):
            continue
        if any(part == ".." or set(part) & set("*?[\\\0") for part in below.parts[:-1]):
            raise InvalidInputError(f"a file is in a folder with a name that cannot be used: {name}")
        kept.append((name, below))
    return kept


def _local_files(path: Path, uri: str) -> list[Path]:
    if not path.is_dir():
        return _not_empty([path] if path.is_file() else [], uri)
    found = (one for one in path.rglob("*") if one.is_file())
    return _not_empty(sorted(one for one in found if not _is_hidden(PurePosixPath(one.relative_to(path)))), uri)


def _is_hidden(path: PurePosixPath) -> bool:
    return any(part.startswith(("_", ".")) and part not in _NAMELESS for part in path.parts)


def _not_empty(found: list[Path], uri: str) -> list[Path]:
    if not found:
        raise InvalidInputError(f"there is no file at {uri}")
    return found


def _check_folder(folder: Path, uri: str) -> None:
    try:
        # lstat and not exists(), which takes a name that is too long, or below a file, for one that is free
        nearest = next(one for one in (folder, *folder.parents) if _is_there(one))
    except OSError as error:
        raise InvalidInputError(f"{uri} cannot be an output: {error.strerror}") from None
    if not nearest.is_dir():
        raise InvalidInputError(f"{uri} cannot be an output: {nearest} is a file; give another output prefix")


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


_CALLERS = (NotADirectoryError, IsADirectoryError, FileExistsError)


def _copy(source: Path, target: Path) -> None:
    part = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, part)
        part.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        kind = InvalidInputError if isinstance(error, _CALLERS) else BackendUnavailableError
        raise kind(f"cannot write {target}: {error.strerror}") from error
