"""What people edit by hand: dataclasses read from JSON, refused where a field is not of the type that it states."""

import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def read_record(kind: type[T], fields: Mapping[str, Any]) -> T:
    """`kind(**fields)`, a dataclass. Raises `TypeError` for missing or unknown fields, `ValueError` for other types."""
    record = kind(**fields)
    for name, wanted in get_type_hints(kind).items():
        if not _fits(getattr(record, name), wanted):
            raise ValueError(f"{name} is {getattr(record, name)!r:.80}")
    return record


def _fits(value: object, wanted: Any) -> bool:  # noqa: ANN401 - whatever annotates a field
    origin, parts = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return value in parts
    if wanted is float:
        return isinstance(value, int | float)
    return isinstance(value, origin or wanted)
