"""Nested cells of an Arrow column, decoded when they are looked at.

A million items are not a million dictionaries: a cell is two references, and the Arrow column
behind it is shared. What Arrow's one schema for all rows added, empty fields, is not seen.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

SIZE = 4096
"""Rows that travel together when a cell of them is pickled."""
NUMBERS = tuple(range(SIZE))
"""Row numbers, made once: a million cells would make a million of each."""


class Block:
    """Neighbouring rows of a column."""

    __slots__ = ("array",)

    def __init__(self, array: pa.Array) -> None:
        """Share ``array``."""
        self.array = array

    def __reduce__(self) -> tuple[Callable[[bytes], "Block"], tuple[bytes]]:
        """Pickle these rows only; a slice of Arrow's would bring the whole column along."""
        batch = pa.record_batch([self.array], ["cells"])
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        return _unpickle, (sink.getvalue().to_pybytes(),)


def _unpickle(data: bytes) -> Block:
    return Block(pa.ipc.open_stream(data).read_next_batch().column(0))


class Cell:
    """One row of a block."""

    __slots__ = ("block", "row")

    def __init__(self, block: Block, row: int) -> None:
        """Refer to ``row`` of ``block``."""
        self.block, self.row = block, row

    def plain(self) -> Any:
        """Decode it to new dictionaries and lists."""
        return drop_empty(self.block.array[self.row].as_py())

    def __reduce__(self) -> tuple[type["Cell"], tuple[Block, int]]:
        """Pickle the reference; cells of one block bring it once."""
        return type(self), (self.block, self.row)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Cell":
        """Nothing of it can change."""
        return self

    def __repr__(self) -> str:
        """As the decoded value."""
        return repr(self.plain())


class Fields(Cell, Mapping[str, Any]):
    """A row of a struct column: a read-only dictionary of the fields that the row has."""

    __slots__ = ()

    def __getitem__(self, key: str) -> Any:
        """Decode one field."""
        array = self.block.array
        value = array.field(key)[self.row] if array.type.get_field_index(key) >= 0 else None
        if value is None or not value.is_valid:
            raise KeyError(key)
        return drop_empty(value.as_py())

    def __iter__(self) -> Iterator[str]:
        """Names of the fields that the row has."""
        array = self.block.array
        names = (field.name for field in array.type)
        return (name for name in names if array.field(name)[self.row].is_valid)

    def __len__(self) -> int:
        """Count of these."""
        return sum(1 for _ in self)

    def items(self) -> Any:
        """Decode all fields at once."""
        return self.plain().items()

    def values(self) -> Any:
        """Decode all fields at once."""
        return self.plain().values()


class Elements(Cell, Sequence[Any]):
    """A row of a list column: a read-only list."""

    __slots__ = ()

    def __getitem__(self, index: Any) -> Any:
        """Decode it, and take an element or a slice."""
        return self.plain()[index]

    def __iter__(self) -> Iterator[Any]:
        """Decode it once."""
        return iter(self.plain())

    def __len__(self) -> int:
        """Count of the elements."""
        return len(self.block.array[self.row])

    def __eq__(self, other: object) -> bool:
        """Equal to a list or another cell of the same elements."""
        if not isinstance(other, list | Elements):
            return NotImplemented
        return bool(self.plain() == (other.plain() if isinstance(other, Elements) else other))

    __hash__ = None  # type: ignore[assignment]  # as a list


def cells(column: pa.ChunkedArray) -> NDArray[np.object_]:
    """Make cells of a struct or list column; None where a row is null."""
    kind = Fields if pa.types.is_struct(column.type) else Elements
    return objects(_cells(column, kind), len(column))


def _cells(column: pa.ChunkedArray, kind: type[Cell]) -> Iterator[Cell | None]:
    for chunk in column.chunks:
        for start in range(0, len(chunk), SIZE):
            part = chunk.slice(start, SIZE)
            block, valid = Block(part), part.is_valid().to_numpy(zero_copy_only=False)
            last: Cell | None = None
            for row, there, again in zip(NUMBERS, valid.tolist(), _repeats(part), strict=False):
                if not again:
                    last = kind(block, row) if there else None
                yield last


def _repeats(part: pa.Array) -> list[bool]:
    """Tell the rows that equal the one before: they share its cell. Only of lists of one length."""
    lengths = part.value_lengths() if pa.types.is_list(part.type) else pa.nulls(0, pa.int32())
    width = lengths[0].as_py() if len(lengths) else None
    values = part.flatten() if width else part
    if pa.types.is_dictionary(values.type):
        values = values.indices
    if not width or not (pa.types.is_primitive(values.type) and len(values) == width * len(part)):
        return [False] * len(part)
    numbers = values.to_numpy(zero_copy_only=False).reshape(len(part), width)
    same = (lengths.to_numpy()[1:] == width) & (numbers[1:] == numbers[:-1]).all(axis=1)
    return [False, *same.tolist()]


def to_arrow(values: Sequence[Any]) -> pa.Array:
    """Make an Arrow array of cells, dictionaries, lists and None.

    Raises:
        pa.ArrowInvalid, pa.ArrowTypeError: the values are not of one type.
    """
    stack = Stack.of(values)
    gathered = None if stack is None else stack.column()
    return pa.array([plain(value) for value in values]) if gathered is None else gathered


class Stack:
    """Cells of several blocks, as columns of Arrow: nothing is decoded one by one."""

    def __init__(self, blocks: list[Block], rows: NDArray[np.int64]) -> None:
        """Take ``rows`` of the blocks, counted through."""
        self.blocks, self.rows = blocks, rows

    @classmethod
    def of(cls, values: Sequence[Any]) -> "Stack | None":
        """Stack up cells; None if another value is among them."""
        if not set(map(type, values)) <= {Fields, Elements}:
            return None
        owners = list(map(attrgetter("block"), values))
        _, first, which = np.unique(
            np.fromiter(map(id, owners), np.int64, len(owners)),
            return_index=True,
            return_inverse=True,
        )
        blocks = [owners[row] for row in first]
        starts = np.cumsum([0, *(len(block.array) for block in blocks)])
        rows = np.fromiter(map(attrgetter("row"), values), np.int64, len(values))
        return cls(blocks, starts[which] + rows)

    def take(self, rows: NDArray[np.intp] | slice) -> "Stack":
        """Leave some rows only."""
        return Stack(self.blocks, self.rows[rows])

    def column(self, *path: str) -> pa.ChunkedArray | None:
        """Make one column of a field, or of whole cells; None where the blocks differ in type.

        Args:
            path: names of fields, from the outside inwards; one that a block lacks is null there.
        """
        parts = [_field(block.array, path) for block in self.blocks]
        if len({part.type for part in parts}) > 1:
            parts = [part.cast(decoded(part.type)) for part in parts]
        kinds = {part.type for part in parts} - {pa.null()}
        if len(kinds) > 1:
            return None
        kind = next(iter(kinds), pa.null())
        parts = [pa.nulls(len(p), kind) if pa.types.is_null(p.type) else p for p in parts]
        return pa.chunked_array(parts, kind).take(pa.array(self.rows))

    def signatures(self) -> NDArray[np.uint64]:
        """A number for each row, the same where rows of structs have the same fields."""
        parts = []
        for block in self.blocks:
            found = np.zeros(len(block.array), dtype=np.uint64)
            for field in block.array.type:
                there = block.array.field(field.name).is_valid().to_numpy(zero_copy_only=False)
                found += there * signature([field.name])
            parts.append(found)
        return np.concatenate([np.empty(0, dtype=np.uint64), *parts])[self.rows]


def signature(names: Iterable[str]) -> np.uint64:
    """A number for a set of names."""
    digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
    return np.uint64(sum(int.from_bytes(digest) for digest in digests) % 2**64)


def decoded(kind: pa.DataType) -> pa.DataType:
    """The type without dictionaries, at any depth."""
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(decoded(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(decoded(kind.value_type)))
    return kind


def _field(array: pa.Array, path: Sequence[str]) -> pa.Array:
    for name in path:
        if not pa.types.is_struct(array.type) or array.type.get_field_index(name) < 0:
            return pa.nulls(len(array))
        array = array.field(name)
    return array


def plain(value: Any) -> Any:
    """Decode a cell; whatever else comes, comes back without empty fields."""
    return value.plain() if isinstance(value, Cell) else drop_empty(value)


def drop_empty(value: Any) -> Any:
    """Copy dictionaries and lists, without the fields that are None: to STAC they are absent."""
    if isinstance(value, Mapping):
        return {key: drop_empty(v) for key, v in value.items() if v is not None}
    return [drop_empty(v) for v in value] if isinstance(value, list | tuple) else value


def objects(values: Iterable[Any], count: int = -1) -> NDArray[np.object_]:
    """Make an array of the values as they are: NumPy would take lists apart."""
    return np.fromiter(values, dtype=object, count=count)
