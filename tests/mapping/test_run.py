"""A run: taken up where it was cut off, the same bytes whatever runs it, one at a time."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rscontrast.errors import InputError, WriteError
from rscontrast.mapping import ledger as ledgers
from rscontrast.mapping.engines import make_engine
from rscontrast.mapping.execute import execute
from rscontrast.mapping.ledger import Ledger, file_sha256, key
from rscontrast.mapping.status import status
from tests.interrupt import heed_ctrl_c
from tests.mapping.running import (
    Paint,
    WhichGpu,
    marks,
    note_results,
    pids,
    settings,
    small_plan,
    tree,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def planned():
    return small_plan()


@pytest.fixture(scope="module")
def expected(planned, tmp_path_factory):
    """What an undisturbed run of one process leaves."""
    folder = tmp_path_factory.mktemp("expected")
    go(planned, folder)
    found = tree(folder / "out")
    assert len(found) == len(planned.jobs) + 3
    return found


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(ledgers, "BACKOFF", 0.02)


def go(plan, folder, *, engine=None, how=None, attempts=3, replace_run=False, **arguments):
    folder.mkdir(exist_ok=True)
    work = Paint(str(folder / "out"), str(folder / "marks"), **arguments)
    return execute(
        plan, how or settings(folder), folder / "out", engine=engine or make_engine("local"),
        work=work, finish=note_results, attempts=attempts, replace_run=replace_run, progress=False,
    )  # fmt: skip


def test_a_second_run_does_nothing_and_a_third_what_is_missing(planned, expected, tmp_path):
    go(planned, tmp_path)
    go(planned, tmp_path)
    assert set(marks(tmp_path / "marks").values()) == {1}
    for place in ("", ".ledger", planned.jobs[3].id):  # as a writer that was killed leaves it
        (tmp_path / "out" / place / ".cog-x.tmp").mkdir()
        (tmp_path / "out" / place / ".cog-x.tmp" / "plain.tif").touch()
    lost, short = planned.jobs[3].id, planned.jobs[5].id
    shutil.rmtree(tmp_path / "out" / lost)
    with (tmp_path / "out" / short / "classes.tif").open("r+b") as file:
        file.truncate(100)
    (tmp_path / "out" / ".ledger" / f"{planned.jobs[7].id}.json").write_text("{")
    go(planned, tmp_path)
    again = {name for name, count in marks(tmp_path / "marks").items() if count == 2}
    assert again == {lost, short, planned.jobs[7].id}
    assert tree(tmp_path / "out") == expected


SCRIPT = """
import sys
from pathlib import Path
from rscontrast.mapping.engines import make_engine
from tests.mapping.running import small_plan
from tests.mapping.test_run import go

if __name__ == "__main__":
    go(small_plan(), Path(sys.argv[1]), engine=make_engine(sys.argv[2], workers=int(sys.argv[3])),
       slow=float(sys.argv[4]))
"""


def begin(folder, engine="local", workers=1, slow=0.2, script=SCRIPT):
    path = folder.parent / f"{folder.name}.py"
    path.write_text(script)
    words = [sys.executable, str(path), str(folder), engine, str(workers), str(slow)]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        words, cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}, stderr=subprocess.PIPE,
        text=True, preexec_fn=heed_ctrl_c, start_new_session=True,
    )  # fmt: skip


def wait_for(condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def records(folder):
    return list((folder / "out" / ".ledger").glob("3*.json"))


def test_killed_at_any_moment_it_is_taken_up_with_the_same_bytes(planned, expected, tmp_path):
    folder = tmp_path / "run"
    for count, workers in ((2, 1), (9, 2)):
        process = begin(folder, workers=workers)
        wait_for(lambda n=count: len(records(folder)) >= n)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stderr.close()
        wait_for(lambda: not any(map(alive, pids(folder / "marks"))), 20)
    before = marks(folder / "marks")
    done = {path.stem for path in records(folder)}
    assert 9 <= len(done) < len(planned.jobs)
    found = status(folder / "out")
    assert (found.done, found.pending) == (len(done), len(planned.jobs) - len(done))
    assert found.exit_code == 4
    go(planned, folder)
    after = marks(folder / "marks")
    assert all(after[name] == before[name] for name in done)
    assert tree(folder / "out") == expected


@pytest.mark.parametrize("engine", ["local", "dask"])
def test_ctrl_c_leaves_no_half_file_and_no_process(engine, planned, expected, tmp_path):
    folder = tmp_path / "run"
    process = begin(folder, engine, workers=2, slow=0.5)
    wait_for(lambda: len(records(folder)) >= 3)
    workers = pids(folder / "marks")
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in err
    wait_for(lambda: not any(map(alive, workers)), 20)
    left = [path for path in (folder / "out").rglob("*") if ".tmp" in path.name]
    assert left == []
    done = {path.stem for path in records(folder)}
    assert {p.parent.name for p in (folder / "out").rglob("classes.tif")} >= done
    go(planned, folder)
    assert tree(folder / "out") == expected


@pytest.mark.parametrize("engine", ["local", "dask"])
def test_a_killed_worker_loses_nothing_and_the_bytes_are_the_same(
    engine, planned, expected, tmp_path
):
    name = planned.jobs[4].id
    go(planned, tmp_path, engine=make_engine(engine, workers=2), dies=(name,), slow=0.02)
    assert tree(tmp_path / "out") == expected
    assert marks(tmp_path / "marks")[name] == 2
    # Two, one in place of the killed one, and one for the second round.
    assert 2 <= len(pids(tmp_path / "marks")) <= 4
    assert os.getpid() not in pids(tmp_path / "marks")


def test_each_gpu_has_a_worker_of_its_own(planned):
    engine = make_engine("local", workers=2, gpus=("0", "GPU-7"))
    outcomes = list(engine.run(planned.jobs[:2], WhichGpu()))
    assert {name for o in outcomes for name in o.result.files} == {"0", "GPU-7"}


def test_dask_with_four_workers_leaves_the_same_bytes(planned, expected, tmp_path):
    go(planned, tmp_path, engine=make_engine("dask", workers=4), slow=0.05)
    assert tree(tmp_path / "out") == expected
    assert 1 < len(pids(tmp_path / "marks")) <= 4


def test_a_cluster_by_address_that_scales_as_it_needs(planned, expected, tmp_path):
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=0, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        cluster.adapt(minimum=0, maximum=2, interval="100ms")
        engine = make_engine("dask", address=cluster.scheduler_address)
        go(planned, tmp_path, engine=engine, slow=0.05)
    assert tree(tmp_path / "out") == expected
    assert 1 <= len(pids(tmp_path / "marks")) <= 4


def test_no_cluster_at_the_address(planned, tmp_path):
    with pytest.raises(InputError, match=r"address: got 'tcp://127\.0\.0\.1:9'"):
        go(planned, tmp_path, engine=make_engine("dask", address="tcp://127.0.0.1:9", patience=1))


def test_a_job_that_kills_each_worker_is_parked(planned, tmp_path):
    name = planned.jobs[2].id
    few = replace(planned, jobs=planned.jobs[:4])
    engine = make_engine("local", workers=2)
    with pytest.warns(UserWarning, match=r"1 of 4 jobs failed.*signal SIGKILL"):
        go(few, tmp_path, engine=engine, deadly=(name,), attempts=2)
    found = status(tmp_path / "out")
    assert (found.done, found.failed, found.exit_code) == (3, 1, 3)
    assert marks(tmp_path / "marks")[name] == 2


def test_failures_are_tried_again_then_parked_and_the_run_goes_on(planned, expected, tmp_path):
    ids = [job.id for job in planned.jobs]
    faults = {"fails": (ids[1],), "once": (ids[2],), "refuses": (ids[3],)}
    with pytest.warns(UserWarning, match=rf"2 of 30 jobs failed, the first, {ids[1]}: .*block"):
        go(planned, tmp_path, **faults)
    calls = marks(tmp_path / "marks")
    assert (calls[ids[1]], calls[ids[2]], calls[ids[3]]) == (3, 2, 1)
    found = status(tmp_path / "out")
    assert (found.done, found.failed, found.pending, found.exit_code) == (28, 2, 0, 3)
    assert found.errors[ids[1]] == f"{ids[1]}: block (3, 4) cannot be read"
    assert "bands: got 'none'" in str(found)
    go(planned, tmp_path)
    calls = marks(tmp_path / "marks")
    assert (calls[ids[1]], calls[ids[2]], calls[ids[3]]) == (4, 2, 2)
    assert tree(tmp_path / "out") == expected
    assert status(tmp_path / "out").exit_code == 0


def test_a_retry_waits_twice_as_long_each_time(planned, tmp_path, monkeypatch):
    monkeypatch.setattr(ledgers, "BACKOFF", 0.2)
    job = planned.jobs[0]
    only = replace(planned, jobs=(job,))
    with pytest.raises(WriteError, match=f"1 of 1 jobs failed, the first, {job.id}"):
        go(only, tmp_path, fails=(job.id,))
    times = sorted(int(p.name.split(".")[2]) / 1e9 for p in (tmp_path / "marks").iterdir())
    first, second = times[1] - times[0], times[2] - times[1]
    assert first >= 0.2
    assert second >= 0.4


def changed(job, **fields):
    """The job with its first item before changed."""
    return replace(job, pre=({**job.pre[0], **fields}, *job.pre[1:]))


def test_a_change_makes_the_affected_jobs_stale_and_no_other(planned, tmp_path):
    go(planned, tmp_path)
    which = planned.jobs[4]
    asset = {**which.pre[0]["assets"]["red"], "file:checksum": "1220ab"}
    assets = {**which.pre[0]["assets"], "red": asset}
    jobs = [changed(j, assets=assets) if j is which else j for j in planned.jobs]
    other = replace(planned, jobs=tuple(jobs))
    stale = Ledger(tmp_path / "out").state(which.id, key(jobs[4], settings(tmp_path), "x"))
    assert stale == "stale"
    (tmp_path / "out" / which.id / "uncertainty.tif").write_text("of a former run")
    go(other, tmp_path)
    assert {n for n, c in marks(tmp_path / "marks").items() if c == 2} == {which.id}
    assert not (tmp_path / "out" / which.id / "uncertainty.tif").exists()
    go(other, tmp_path, how=settings(tmp_path, "other weights"))
    assert sum(marks(tmp_path / "marks").values()) == 30 + 1 + 30
    go(other, tmp_path, how=settings(tmp_path, "other weights", batch_size=3, device="cpu"))
    assert sum(marks(tmp_path / "marks").values()) == 30 + 1 + 30


def test_what_a_key_depends_on(planned, tmp_path):
    job, how = planned.jobs[0], settings(tmp_path)
    same = key(job, how, "a")
    item = job.pre[0]
    remote = {k: {**a, "href": "https://x/" + k} for k, a in item["assets"].items()}
    ask = {k: {**a, "href": "https://x/" + k + "?sig=2"} for k, a in item["assets"].items()}
    assert key(changed(job, assets=remote), how, "a") == key(changed(job, assets=ask), how, "a")
    assert key(changed(job, links=[], **{"eo:cloud_cover": 99}), how, "a") == same
    assert key(job, replace(how, batch_size=1, threads=4, device="cpu"), "a") == same
    assert key(job, replace(how, checkpoint="renamed.pt"), "a") == same
    others = [
        key(job, how, "b"),
        *(
            key(job, replace(how, **change), "a")
            for change in (
                {"patch_size": 128}, {"overlap": 8}, {"window": "flat"}, {"precision": "bf16"},
                {"tta": True}, {"uncertainty": True},
            )
        ),
        key(replace(job, halo=job.halo + 1), how, "a"),
        key(replace(job, geobox=planned.jobs[1].geobox), how, "a"),
        key(replace(job, aoi=job.geobox.extent.geom), how, "a"),
        key(replace(job, pre=job.pre[::-1]), how, "a"),
        key(replace(job, post=job.pre), how, "a"),
        key(changed(job, updated="2024-01-01T00:00:00Z"), how, "a"),
        key(changed(job, assets=remote), how, "a"),
    ]  # fmt: skip
    assert len({same, *others}) == len(others) + 1


def test_a_local_file_that_is_written_anew_counts_as_another(planned, tmp_path):
    job, how = planned.jobs[0], settings(tmp_path)
    path = tmp_path / "red.tif"
    path.write_bytes(b"one")
    assets = {"red": {**job.pre[0]["assets"]["red"], "href": str(path)}}
    before = key(changed(job, assets=assets), how, "a")
    path.write_bytes(b"another")
    assert key(changed(job, assets=assets), how, "a") != before


def test_a_changed_grid_replaces_what_was_there(planned, tmp_path):
    go(planned, tmp_path)
    coarse = small_plan(res=5.0)
    go(coarse, tmp_path)
    names = {path.parent.name for path in (tmp_path / "out").rglob("classes.tif")}
    assert names == {job.id for job in coarse.jobs}
    assert {path.stem for path in records(tmp_path)} == names
    assert {p.name for p in (tmp_path / "out").iterdir() if p.is_dir()} == {*names, ".ledger"}


def test_the_folder_of_another_run_is_refused_or_taken_over(planned, tmp_path):
    go(planned, tmp_path)
    before = tree(tmp_path / "out")
    other = replace(planned, question={**planned.question, "event": "2021-01-01"})
    with pytest.raises(InputError, match=r"another run \(event 2022-08-15\)"):
        go(other, tmp_path)
    assert tree(tmp_path / "out") == before
    go(other, tmp_path, replace_run=True)
    assert set(marks(tmp_path / "marks").values()) == {1}  # the same jobs: nothing to do


def test_a_folder_with_somebody_elses_catalog_is_refused(planned, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "catalog.json").write_text("precious")
    with pytest.raises(InputError, match="out: got"):
        go(planned, tmp_path)
    assert (tmp_path / "out" / "catalog.json").read_text() == "precious"


def test_two_runs_at_once_into_one_folder(planned, expected, tmp_path):
    folder = tmp_path / "run"
    process = begin(folder, slow=0.1)
    wait_for(lambda: len(records(folder)) >= 1)
    with pytest.raises(InputError, match=rf"no other run writes; process {process.pid} on"):
        go(planned, folder)
    assert status(folder / "out").pending > 0
    assert process.wait(timeout=120) == 0
    process.stderr.close()
    assert set(marks(folder / "marks").values()) == {1}
    assert tree(folder / "out") == expected


def test_status_of_no_run(tmp_path):
    with pytest.raises(InputError, match="status: got"):
        status(tmp_path)


def test_status_tells_km2_rate_and_time_left(planned, tmp_path):
    only = replace(planned, jobs=planned.jobs[:10])
    name = only.jobs[3].id
    with pytest.warns(UserWarning, match="1 of 10"):
        go(only, tmp_path, refuses=(name,), slow=0.01)
    found = status(tmp_path / "out")
    assert found.km2 == pytest.approx(0.9)
    assert found.km2_left == pytest.approx(only.estimates[name].km2)
    assert 0 < found.rate < 0.9 / 0.09
    assert found.seconds_left == pytest.approx(found.km2_left / found.rate)
    assert re.search(r"9 done, 1 failed, 0 pending, 0 skipped", str(found))


def test_a_script_without_a_guard_is_told_what_to_do(tmp_path):
    script = SCRIPT.replace('if __name__ == "__main__":', "if True:")
    process = begin(tmp_path / "run", workers=2, script=script)
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "under if __name__ == '__main__'" in err


def test_a_read_only_target(planned, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot be written"):
        execute(
            planned, settings(tmp_path), tmp_path / "file" / "out", engine=make_engine("local"),
            work=Paint("", str(tmp_path / "marks")), finish=note_results, progress=False,
        )  # fmt: skip


FULL = """
import resource, signal, sys
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from rscontrast.mapping import ledger
from rscontrast.errors import RSContrastError
from tests.mapping.running import small_plan
from tests.mapping.test_run import go
ledger.BACKOFF = 0.01
plan, folder = small_plan(), Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), resource.RLIM_INFINITY))
try:
    go(plan, folder)
except RSContrastError as error:
    print(type(error).__name__, error, file=sys.stderr)
    sys.exit(2)
"""


def test_a_full_disk_ends_clearly_and_is_taken_up(planned, expected, tmp_path):
    """A limit on the size of a file stands in for the disk."""
    folder = tmp_path / "run"
    process = begin(folder, slow=4096, script=FULL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    assert "WriteError" in err
    assert re.search("disk full|no space left", err)
    assert not list((folder / "out").rglob("*.tmp*"))
    go(planned, folder)
    assert tree(folder / "out") == expected


def test_the_ledger_is_small_json_files(planned, tmp_path):
    go(planned, tmp_path)
    path = records(tmp_path)[0]
    record = json.loads(path.read_text())
    assert record["result"]["id"] == path.stem
    assert list(record["result"]["files"]) == [f"{path.stem}/classes.tif"]
    assert (
        file_sha256(tmp_path / "out" / path.stem / "classes.tif")
        == (record["result"]["files"][f"{path.stem}/classes.tif"])
    )
