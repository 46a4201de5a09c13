"""Files of Parquet, here or far away, opened so that only what is asked for is read."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rscontrast.errors import CatalogError, InputError
from rscontrast.stac.sources.hrefs import local_path, path_of
from rscontrast.stac.sources.http import Http
from rscontrast.stac.sources.ranges import RangeFile

if TYPE_CHECKING:
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

SUFFIXES = (".parquet", ".geoparquet", ".pq")
HTTP = ("http://", "https://")

REPEATING = 4
"""Bytes a value, below which a text counts as repeating."""


@dataclass(frozen=True)
class Place:
    """Where a file of Parquet is."""

    href: str
    """Path or URL."""
    http: Http = field(default_factory=Http, compare=False)
    """What fetches a URL."""

    @property
    def remote(self) -> bool:
        """Whether it is a URL."""
        return "://" in self.href

    @property
    def stem(self) -> str:
        """Name without folder and suffix."""
        return Path(path_of(self.href)).stem

    @contextmanager
    def open(self) -> Iterator["ds.ParquetFileFragment"]:
        """Open it; what is wrong with it, also while it is read, comes as our own errors.

        Raises:
            InputError: a file here that is missing or is not Parquet.
            CatalogError: a file elsewhere that cannot be read.
        """
        import pyarrow as pa

        try:
            with _remote(self.href, self.http) if self.remote else nullcontext() as remote:
                yield _far(remote) if self.remote else _near(self.href)
        except (InputError, CatalogError):
            raise
        except Exception as error:
            # fsspec passes on whatever its transports raise, of which there are many.
            if self.remote:
                reason = str(error) or type(error).__name__
                raise CatalogError(f"{self.href}: cannot be read as Parquet ({reason})") from error
            if not isinstance(error, OSError | pa.ArrowException | KeyError | ValueError):
                raise
            allowed = f"a file of stac-geoparquet ({error})"
            raise InputError("source", self.href, allowed) from error


def places(href: str, http: Http | None = None) -> list[Place]:
    """List the files of Parquet under a path or URL.

    Args:
        href: a file, or a folder, whose files at any depth are taken; over HTTP, a file.
        http: what fetches a URL.

    Raises:
        InputError: there is none.
    """
    href = local_path(href)
    if "://" in href:
        return _remote_places(href, http or Http())
    path = Path(href).expanduser()
    if not path.is_dir():
        return [Place(str(path))]
    found = sorted(file for file in path.rglob("*") if _listed(str(file)) and file.is_file())
    if not found:
        raise InputError("source", href, _allowed(path))
    return [Place(str(file)) for file in found]


def is_parquet(href: str) -> bool:
    """Whether a name is that of a file of Parquet."""
    return path_of(href).lower().endswith(SUFFIXES)


def _listed(path: str) -> bool:
    """Whether a file of a folder is one of items: writers leave other things beside them."""
    return is_parquet(path) and not Path(path).name.startswith((".", "_"))


def _allowed(folder: Path) -> str:
    """What would do in place of a folder without Parquet."""
    allowed = f"a folder with files of {', '.join(SUFFIXES)}"
    catalogs = [folder / name for name in ("catalog.json", "collection.json")]
    found = next((str(path) for path in catalogs if path.is_file()), None)
    return f"{allowed}, or the catalog in it: {found}" if found else allowed


def _remote_places(href: str, http: Http) -> list[Place]:
    if is_parquet(href) or href.startswith(HTTP):
        return [Place(href, http)]
    scheme = href.partition("://")[0]
    try:
        found = sorted(_store(href).find(href))
    except Exception as error:
        raise CatalogError(f"{href}: cannot be listed ({error})") from error
    kept = [Place(f"{scheme}://{path}") for path in found if _listed(path)]
    if not kept:
        raise InputError("source", href, f"a folder with files of {', '.join(SUFFIXES)}")
    return kept


def _near(path: str) -> "ds.ParquetFileFragment":
    """Keep what repeats in nested columns as numbers into a list: half the memory and the time."""
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq
    from pyarrow.fs import LocalFileSystem

    options = ds.ParquetReadOptions(dictionary_columns=_repeating(pq.read_metadata(path)))
    return ds.ParquetFileFormat(options).make_fragment(path, LocalFileSystem())


def _repeating(metadata: "pq.FileMetaData") -> list[str]:
    """Text inside of nested columns that takes next to no room in the file."""
    room: dict[str, list[int]] = {}
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            column = metadata.row_group(group).column(number)
            if column.physical_type == "BYTE_ARRAY" and "." in column.path_in_schema:
                sizes = room.setdefault(column.path_in_schema, [0, 0])
                sizes[0] += column.total_uncompressed_size
                sizes[1] += column.num_values
    return [path for path, (size, count) in room.items() if size < REPEATING * count]


def _far(file: Any) -> "ds.ParquetFileFragment":
    import pyarrow.dataset as ds

    return ds.ParquetFileFormat().make_fragment(file)


def _remote(href: str, http: Http) -> Any:
    """Open a URL for reading by ranges: what Arrow asks for, and nothing ahead of it."""
    if href.startswith(HTTP):
        return RangeFile(href, http)
    return _store(href).open(href, cache_type="none")


def _store(href: str) -> Any:
    import fsspec

    scheme = href.partition("://")[0]
    if scheme in ("s3", "gs"):
        from fsspec.implementations.arrow import ArrowFSWrapper
        from pyarrow.fs import FileSystem

        # Arrow has clients of its own for these, so that no further package is needed.
        return ArrowFSWrapper(FileSystem.from_uri(href)[0])
    try:
        return fsspec.filesystem(scheme)
    except (ImportError, ValueError) as error:
        raise InputError("source", href, f"a path or URL that fsspec opens ({error})") from error
