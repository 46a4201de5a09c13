"""Nested cells of an Arrow column, decoded when they are looked at.

A million items are not a million dictionaries: a cell is two references, and the Arrow column
behind it is shared. What Arrow's one schema for all rows added, empty fields, is not seen.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

SIZE = 4096
"""Rows that travel together when a cell of them is pickled."""


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
    out = np.empty(len(column), dtype=object)
    done = 0
    for chunk in column.chunks:
        for start in range(0, len(chunk), SIZE):
            part = chunk.slice(start, SIZE)
            block, valid = Block(part), part.is_valid().to_numpy(zero_copy_only=False)
            made = [kind(block, row) if ok else None for row, ok in enumerate(valid)]
            out[done : done + len(part)] = made
            done += len(part)
    return out


def to_arrow(values: Sequence[Any]) -> pa.Array:
    """Make an Arrow array of cells, dictionaries, lists and None.

    Raises:
        pa.ArrowInvalid, pa.ArrowTypeError: the values are not of one type.
    """
    array = _gather(values)
    return pa.array([plain(value) for value in values]) if array is None else array


def _gather(values: Sequence[Any]) -> pa.Array | None:
    """Take the rows out of the blocks without decoding them, if all are cells of one type."""
    blocks: dict[int, Block] = {}
    start: dict[int, int] = {}
    total = 0
    for value in values:
        if not isinstance(value, Cell):
            return None
        if id(value.block) not in blocks:
            blocks[id(value.block)], start[id(value.block)] = value.block, total
            total += len(value.block.array)
    if len({block.array.type for block in blocks.values()}) != 1:
        return None
    rows = np.fromiter((start[id(v.block)] + v.row for v in values), np.int64, len(values))
    return pa.chunked_array([block.array for block in blocks.values()]).take(pa.array(rows))


def plain(value: Any) -> Any:
    """Decode a cell; whatever else comes, comes back without empty fields."""
    return value.plain() if isinstance(value, Cell) else drop_empty(value)


def drop_empty(value: Any) -> Any:
    """Copy dictionaries and lists, without the fields that are None: to STAC they are absent."""
    if isinstance(value, Mapping):
        return {key: drop_empty(v) for key, v in value.items() if v is not None}
    return [drop_empty(v) for v in value] if isinstance(value, list | tuple) else value
