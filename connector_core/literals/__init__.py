"""flyteidl literals as Python values, and Python values as literals, without any dataframe library.

What a literal becomes (`to_python`):

| literal | Python |
|---|---|
| integer, float, string, boolean primitive | `int`, `float`, `str`, `bool` |
| datetime, duration primitive | `datetime` in UTC, `timedelta` (microseconds; finer digits are cut off) |
| none | `None` |
| collection, map | `list`, `dict` |
| union | the value of its variant |
| generic struct | `dict`; whole numbers are `int`, since a struct knows only doubles |
| binary, tag `msgpack` | what was packed: flytekit's form of `dict`, dataclasses and pydantic models |
| binary, another tag | `Binary` |
| blob | `File` or `Directory`; a pickle is a `File` of format `PythonPickle`, never loaded |
| schema, structured dataset, error | `Schema`, `StructuredDataset`, `ErrorValue` |

What a value becomes without a literal type (`to_literal`): the same backwards, and

- `dict`, dataclasses and pydantic models become msgpack, because flytekit decodes that for every declared type (`dict`,
  `dict[str, int]`, `dict[str, FlyteFile]`, a dataclass, a model), and a literal map only for `dict[str, ...]`. Inside,
  values take the forms that flytekit writes there: ISO 8601 text for `datetime`, `date` and `time`, seconds for
  `timedelta`, text for `Decimal`, `UUID` and paths, a list for tuples and sets, an enum's value, `{"path": uri}` for
  files. They come back in these forms where nobody declares their type. A literal map, whose values keep their types, is
  made where the literal type is a map;
- an enum member becomes its value, a `date` midnight UTC, `bytes` msgpack, NumPy's scalars Python's;
- a `Literal` stays as it is.

A `datetime` without a time zone and an `int` outside of 64 bits are refused. With a literal type, a value that does not
match it is refused as well, but for an `int` where a FLOAT is expected (if a float equals it), an enum member where its
value is, and a value where its enum is.
"""

from connector_core.literals.decode import to_python, to_python_dict, to_python_map
from connector_core.literals.encode import to_literal, to_literal_map
from connector_core.literals.values import Binary, Directory, ErrorValue, File, Schema, StructuredDataset

__all__ = [
    "Binary",
    "Directory",
    "ErrorValue",
    "File",
    "Schema",
    "StructuredDataset",
    "to_literal",
    "to_literal_map",
    "to_python",
    "to_python_dict",
    "to_python_map",
]
