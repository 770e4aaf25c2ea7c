"""Files of results at local paths and in object stores, as far as the operator allows them."""

import contextlib
import importlib
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

from connector_core import BackendUnavailableError, ConnectorError, InvalidInputError, PermissionDeniedError, get_secret
from connector_core.tables import read_table
from connector_plugin_postgres.config import SECTION, PostgresConfig, SecretRef

_EXTRAS = {"s3": "s3", "gs": "gcs"}
# fsspec's own block of 50 MB would be most of what a long result may take.
_BLOCK_BYTES = 8 * 1024 * 1024


class Target(Protocol):
    """A file that is there, whole, when it is committed, and not before; its errors are the store's own."""

    file: IO[bytes]

    def commit(self) -> None:
        """Put the file in its place."""

    def discard(self) -> None:
        """Leave nothing of it."""


class Storage:
    """Writes results and reads manifests; usable from several threads."""

    def __init__(self, config: PostgresConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._filesystems: dict[str, Any] = {}

    def check(self, uri: str) -> None:
        """Refuse a place that results may not go to.

        Raises:
            PermissionDeniedError: the operator does not allow it.
        """
        self._locate(uri)

    def open(self, uri: str) -> Target:
        """Begin a file.

        Raises:
            PermissionDeniedError: the operator does not allow the place, or the store refuses.
            BackendUnavailableError: the store does not answer.
        """
        place = self._locate(uri)
        with translated(f"write {uri}"):
            return LocalTarget(place) if isinstance(place, Path) else _RemoteTarget(self._filesystem(uri), place)

    def read(self, uri: str, limit: int) -> bytes | None:
        """Return the content of a small file, `None` where there is none."""
        place = self._locate(uri)
        with translated(f"read {uri}"):
            try:
                file = place.open("rb") if isinstance(place, Path) else self._filesystem(uri).open(place, "rb")
                with file:
                    content: bytes = file.read(limit)
                    return content
            except FileNotFoundError:
                return None

    def files(self, uri: str) -> Iterator[IO[bytes]]:
        """Open the files of a table one after another; those whose name begins with a dot or an underscore are not of it.

        Raises:
            InvalidInputError: there is none.
        """
        place = self._locate(uri)
        with translated(f"read {uri}"):
            names: list[Any] = _local_files(place) if isinstance(place, Path) else self._filesystem(uri).find(place)
        names = [name for name in names if not _is_hidden(str(name).removeprefix(str(place)))]
        if not names:
            raise InvalidInputError(f"there is no file at {uri}")
        for name in sorted(names):
            with translated(f"read {uri}"):
                file: IO[bytes] = name.open("rb") if isinstance(name, Path) else self._filesystem(uri).open(name, "rb")
            yield file

    def _locate(self, uri: str) -> Path | str:
        scheme, separator, rest = uri.partition("://")
        if "\0" in uri:
            raise InvalidInputError("the output prefix has a NUL in it")
        if not separator or scheme == "file":
            return self._local(Path(uri if not separator else f"/{rest.lstrip('/')}"), uri)
        if scheme not in _EXTRAS or "::" in uri or ".." in rest.split("/"):
            raise PermissionDeniedError(
                f"{uri!r} is not a place that is written here: s3://, gs:// and local paths are"
            )
        if not any(_is_below(uri, prefix) for prefix in self._config.allowed_uris):
            raise PermissionDeniedError(
                f"{uri!r} is below none of the allowed_uris of {SECTION}; the operator of the host can add "
                f'"{scheme}://{rest.partition("/")[0]}/" there'
            )
        return rest

    def _local(self, path: Path, uri: str) -> Path:
        real = path.resolve()
        if not any(real.is_relative_to(folder.resolve()) for folder in self._config.allowed_directories):
            raise PermissionDeniedError(
                f"{uri!r} is in none of the allowed_directories of {SECTION}; the operator of the host can add its folder there"
            )
        return real

    def _filesystem(self, uri: str) -> Any:
        protocol = uri.partition("://")[0]
        with self._lock:
            if (filesystem := self._filesystems.get(protocol)) is None:
                filesystem = self._filesystems[protocol] = self._connect(protocol)
        return filesystem

    def _connect(self, protocol: str) -> Any:
        from fsspec.registry import known_implementations  # type: ignore[import-untyped]

        given = self._config.storage_options.get("s3" if protocol == "s3" else "gs", {})
        options = {name: _resolved(value) for name, value in given.items()}
        # Not fsspec.filesystem(): other plugins of a host register classes of their own for a protocol.
        module, _, name = known_implementations[protocol]["class"].rpartition(".")
        try:
            return getattr(importlib.import_module(module), name)(
                skip_instance_cache=True, use_listings_cache=False, **options
            )
        except ImportError as error:
            raise BackendUnavailableError(
                f"{protocol}:// needs a package that this host lacks ({error}); "
                f'install it with: pip install "connector-plugin-postgres[{_EXTRAS[protocol]}]"'
            ) from None


class LocalTarget:
    """A file of this machine's, written beside its place."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._part = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
        self.file: IO[bytes] = self._part.open("wb")

    def commit(self) -> None:
        """Put the file in its place."""
        self.file.close()
        self._part.replace(self._path)

    def discard(self) -> None:
        """Leave nothing of it."""
        with contextlib.suppress(OSError):
            self.file.close()
            self._part.unlink(missing_ok=True)


class _RemoteTarget:
    def __init__(self, filesystem: Any, path: str) -> None:
        self._path = path
        self.file: IO[bytes] = filesystem.open(path, "wb", block_size=_BLOCK_BYTES)

    def commit(self) -> None:
        self.file.close()

    def discard(self) -> None:
        unfinished: Any = self.file
        with contextlib.suppress(Exception):
            unfinished.discard()
            unfinished.closed = True  # closing would upload what there is


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn what a store's client raises into what a connector raises."""
    try:
        yield
    except ConnectorError:
        raise
    except (PermissionError, NotADirectoryError, FileExistsError, IsADirectoryError) as error:
        raise PermissionDeniedError(f"cannot {what}: {error}") from error
    except Exception as error:
        raise BackendUnavailableError(f"cannot {what}: {type(error).__name__}: {error}") from error


def _local_files(place: Path) -> list[Path]:
    if not place.is_dir():
        return [place] if place.is_file() else []
    return [path for path in place.rglob("*") if path.is_file()]


def _is_hidden(below: str) -> bool:
    return any(part.startswith(("_", ".")) for part in below.split("/"))


def _resolved(value: Any) -> Any:
    if isinstance(value, Mapping) and "secret" in value:
        reference = read_table(SecretRef, value, f"{SECTION} storage_options")
        return get_secret(reference.secret, reference.group).get_secret_value()
    return value


def _is_below(uri: str, prefix: str) -> bool:
    return uri == prefix or uri.startswith(prefix if prefix.endswith("/") else f"{prefix}/")
