"""What was made of which results, so that a second run makes only what is missing or old."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rscontrast.atomic import write_text


class Stamps:
    """Remembers, in one small file, what each product was made of and what came out."""

    def __init__(self, folder: Path, *facts: Any) -> None:
        """Read what a run before left.

        Args:
            folder: of the run.
            facts: all that the products depend on; plain.
        """
        self.folder, self.path = folder, folder / ".ledger" / "products.json"
        said = json.dumps(facts, sort_keys=True, default=str)
        self.key = hashlib.sha256(said.encode()).hexdigest()
        try:
            self.known = dict(json.loads(self.path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            self.known = {}

    def fresh(self, name: str, paths: Iterable[Path]) -> bool:
        """Whether a product was made of the same facts and lies there as it was written."""
        return bool(self.known.get(name) == self._state(paths))

    def note(self, name: str, paths: Iterable[Path]) -> None:
        """Remember that a product was made.

        Raises:
            WriteError: the disk does not take it.
        """
        self.known[name] = self._state(paths)
        write_text(self.path, json.dumps(self.known, indent=1, sort_keys=True))

    def _state(self, paths: Iterable[Path]) -> dict[str, Any]:
        files = {}
        for path in paths:
            name = path.relative_to(self.folder).as_posix()
            files[name] = _sha256(path) if path.is_file() else None
        return {"key": self.key, "files": files}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
