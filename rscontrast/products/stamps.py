"""What was made of which results, so that a second run makes only what is missing or old."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rscontrast.atomic import write_text


class Stamps:
    """Remembers, in one small file, what each product was made of and what came out."""

    def __init__(self, folder: Path, *facts: Any) -> None:
        """Read what a run before left.

        Args:
            folder: of the run.
            facts: all that every product depends on; plain.
        """
        self.folder, self.path = folder, folder / ".ledger" / "products.json"
        self.facts = facts
        try:
            self.known = dict(json.loads(self.path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            self.known = {}

    def fresh(self, paths: Sequence[Path], *facts: Any) -> bool:
        """Whether files were made of the same facts and lie there as they were written."""
        return bool(self.known.get(self._name(paths[0])) == self._state(paths, facts))

    def note(self, paths: Sequence[Path], *facts: Any) -> None:
        """Remember that files were made; :meth:`save` writes it down."""
        self.known[self._name(paths[0])] = self._state(paths, facts)

    def save(self, only: Iterable[Path] | None = None) -> None:
        """Write down what is known, of ``only`` some files if they are given.

        Raises:
            WriteError: the disk does not take it.
        """
        if only is not None:
            names = set(map(self._name, only))
            self.known = {name: state for name, state in self.known.items() if name in names}
        write_text(self.path, json.dumps(self.known, indent=1, sort_keys=True))

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _state(self, paths: Sequence[Path], facts: Sequence[Any]) -> dict[str, Any]:
        said = json.dumps([*self.facts, *facts], sort_keys=True, default=str)
        files = {self._name(path): _sha256(path) if path.is_file() else None for path in paths}
        return {"key": hashlib.sha256(said.encode()).hexdigest(), "files": files}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
