"""Names of literal types in errors."""

from collections.abc import Callable, Iterable, Mapping

from flyteidl.core.types_pb2 import BlobType, LiteralType, SimpleType

from connector_core.literals.refusal import shown

_MAX_DEPTH = 3
_MAX_ITEMS = 8


def described(literal_type: LiteralType, depth: int = 0) -> str:
    """Return a type in words, with an article; long and deep ones are cut."""
    if depth > _MAX_DEPTH:
        return "..."
    return _DESCRIBE[literal_type.WhichOneof("type")](literal_type, depth + 1)


def _simple(literal_type: LiteralType, _depth: int) -> str:
    if literal_type.simple not in SimpleType.values():
        return f"a simple type that this host's flyteidl does not know (number {literal_type.simple})"
    name = SimpleType.Name(literal_type.simple)
    return f"{'an' if name[0] in 'IE' else 'a'} {name}"


def _collection(literal_type: LiteralType, depth: int) -> str:
    return f"a collection (each item {described(literal_type.collection_type, depth)})"


def _map(literal_type: LiteralType, depth: int) -> str:
    return f"a map (each value {described(literal_type.map_value_type, depth)})"


def _union(literal_type: LiteralType, depth: int) -> str:
    return f"a union of {_listed(described(one, depth) for one in literal_type.union_type.variants)}"


def _enum(literal_type: LiteralType, _depth: int) -> str:
    return f"an enum of {_listed(map(shown, literal_type.enum_type.values))}"


def _blob(literal_type: LiteralType, _depth: int) -> str:
    kind = "Directory" if literal_type.blob.dimensionality == BlobType.MULTIPART else "File"
    return f"a {kind}{_format(literal_type.blob.format)}"


def _structured_dataset(literal_type: LiteralType, _depth: int) -> str:
    return f"a StructuredDataset{_format(literal_type.structured_dataset_type.format)}"


def _format(name: str) -> str:
    return f" of format {shown(name)}" if name else ""


def _listed(parts: Iterable[str]) -> str:
    first: list[str] = []
    for part in parts:
        if len(first) == _MAX_ITEMS:
            first.append("...")
            break
        first.append(part)
    return ", ".join(first)


_DESCRIBE: Mapping[str | None, Callable[[LiteralType, int], str]] = {
    "simple": _simple,
    "collection_type": _collection,
    "map_value_type": _map,
    "union_type": _union,
    "enum_type": _enum,
    "blob": _blob,
    "schema": lambda _literal_type, _depth: "a Schema",
    "structured_dataset_type": _structured_dataset,
    None: lambda _literal_type, _depth: "anything",
}
