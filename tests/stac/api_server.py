"""A real STAC API: PostgreSQL with PostGIS, pgstac and stac-fastapi, as processes on loopback.

The cluster is private to the test session: own folder, own port, gone at the end.
"""

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

SERVERS = Path("/usr/lib/postgresql")
MODULES = ("pypgstac", "psycopg", "stac_fastapi.pgstac", "uvicorn")
START_S = 60


def missing() -> str:
    """What this machine lacks; empty: nothing."""
    if not list(SERVERS.glob("*/bin/initdb")):
        return "PostgreSQL (apt-get install postgresql-15)"
    if not list(Path("/usr/share/postgresql").glob("*/extension/postgis.control")):
        return "PostGIS (apt-get install postgresql-15-postgis-3)"
    packages = [name for name in MODULES if not _importable(name)]
    return f"the packages {', '.join(packages)} of the extra `dev`" if packages else ""


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of a parent package
        return False


def need_server() -> None:
    """Skip where there is no server; in CI there must be one."""
    lacking = missing()
    if lacking and os.environ.get("CI"):
        pytest.fail(f"CI tests against a real STAC API, but this machine lacks {lacking}")
    if lacking:
        pytest.skip(f"needs {lacking}")


class Database:
    """A cluster with pgstac in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        names = ("HOST", "PORT", "USER", "PASSWORD", "DATABASE")
        values = ("127.0.0.1", str(self.port), "postgres", "none", "postgres")
        self.environment = {f"PG{n}": v for n, v in zip(names, values, strict=True)}

    @contextmanager
    def running(self) -> Iterator["Database"]:
        data = self.folder / "data"
        self._tool("initdb", "-U", "postgres", "-A", "trust", "-N", "--locale=C.UTF-8", "-D", data)
        quick = (
            "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=30"
        )
        where = f"-c listen_addresses=127.0.0.1 -p {self.port} -k {self.folder}"
        log = self.folder / "log"
        self._tool("pg_ctl", "start", "-w", "-D", data, "-l", log, "-o", f"{where} {quick}")
        try:
            subprocess.run(
                [sys.executable, "-m", "pypgstac.pypgstac", "migrate"],
                env=os.environ | self.environment,
                check=True,
                capture_output=True,
            )
            yield self
        finally:
            self._tool("pg_ctl", "stop", "-w", "-m", "immediate", "-D", data)

    def _tool(self, name: str, *arguments: object) -> None:
        path = max(SERVERS.glob(f"*/bin/{name}"))
        # PostgreSQL refuses to run as root
        user = ["--reuid=postgres", "--regid=postgres", "--clear-groups"]
        prefix = ["setpriv", *user] if os.geteuid() == 0 else []
        command = [*prefix, str(path), *map(str, arguments)]
        # A file, not a pipe: the server inherits it and would hold a pipe open.
        with (self.folder / "tools").open("w+b") as out:
            done = subprocess.run(command, stdout=out, stderr=out, cwd=self.folder)
            out.seek(0)
            assert done.returncode == 0, f"{command}: {out.read().decode()}"

    def execute(self, statement: str, *values: object) -> None:
        import psycopg

        text = " ".join(f"{name[2:].lower()}={v}" for name, v in self.environment.items())
        text = text.replace("database=", "dbname=")
        with psycopg.connect(text, options="-c search_path=pgstac,public") as connection:
            connection.execute(statement, values)

    def load(self, collections: Iterable[dict[str, Any]], items: Iterable[dict[str, Any]]) -> None:
        for kind, documents in (("collections", collections), ("items", items)):
            path = self.folder / f"{kind}.ndjson"
            path.write_text("".join(json.dumps(document) + "\n" for document in documents))
            subprocess.run(
                [sys.executable, "-m", "pypgstac.pypgstac", "load", kind, path, "--method=upsert"],
                env=os.environ | self.environment,
                check=True,
                capture_output=True,
            )

    def delete(self, *ids: str) -> None:
        self.execute("DELETE FROM items WHERE id = ANY(%s)", list(ids))


@contextmanager
def served(database: Database, **settings: str) -> Iterator[str]:
    """Run stac-fastapi over the database; gives its URL."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", "stac_fastapi.pgstac.app:create_app"]
    command += ["--port", str(port), "--log-level", "warning"]
    environment = os.environ | database.environment | settings
    with (database.folder / f"api-{port}").open("w+b") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            _await(process, url, log)
            yield url
        finally:
            process.terminate()
            process.wait()


def _await(process: "subprocess.Popen[bytes]", url: str, log: Any) -> None:
    for _ in range(START_S * 20):
        try:
            with urllib.request.urlopen(f"{url}/_mgmt/ping"):
                return
        except OSError:
            time.sleep(0.05)
        if process.poll() is not None:
            break
    log.seek(0)
    raise RuntimeError(f"the API did not start: {log.read().decode()}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def private_database(folder: Path) -> Iterator[Database]:
    """A database in ``folder``, or near it where its server runs as another user."""
    with ExitStack() as stack:
        if os.geteuid() == 0:
            # pytest's folders are closed to others
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="pgstac-")))
            shutil.chown(folder, "postgres", "postgres")
        yield stack.enter_context(Database(folder).running())


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    need_server()
    with private_database(tmp_path_factory.mktemp("pgstac")) as running:
        yield running
