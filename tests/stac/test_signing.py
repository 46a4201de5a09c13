"""Signed files, read from a real server that opens them only to good signatures."""

import multiprocessing
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio.shutil

from rscontrast.errors import AssetError
from rscontrast.io import ItemSource, read_mosaic
from rscontrast.io.handles import handle
from rscontrast.stac.provider import BandSource
from rscontrast.stac.signing import BearerSigner, RequesterPays, SharedAccessSigner, Signed
from tests.stac.blobs import serve
from tests.world import grid, write_raster

BOX = grid(shape=(512, 512))
FAR = grid(shape=(64, 64), corner=(BOX.transform.c + 4000, BOX.transform.f - 4000))
NUMBERS = np.random.default_rng(0).integers(1, 9999, BOX.shape).astype("uint16")


@pytest.fixture(params=["NONE", "DEFLATE"])
def blobs(tmp_path, request):
    """Files that GDAL reads, and such that are read without it."""
    with serve(tmp_path / "served") as server:
        plain = write_raster(tmp_path / "plain.tif", NUMBERS[None], BOX)
        for name in ("a", "b"):
            cog = server.folder / f"{name}.tif"
            rasterio.shutil.copy(plain, cog, driver="COG", BLOCKSIZE=128, COMPRESS=request.param)
        yield server


def signer(blobs, margin=0.2):
    return SharedAccessSigner(blobs.endpoint, blobs.domain, margin)


def source(blobs, name="a.tif", **fields):
    return BandSource("scene", "red", blobs.href(name), signer=signer(blobs, **fields))


def read(source, box=FAR):
    return read_mosaic([ItemSource((source,))], box)[0][0]


def expected(box=FAR):
    row, col = (400, 400) if box is FAR else (0, 0)
    return NUMBERS[row : row + box.shape[0], col : col + box.shape[1]]


def read_in_child(source, answer):
    answer.put(bool((read(source) == expected()).all()))


class TestSharedAccess:
    def test_a_read_signs_once_for_all_files_of_a_container(self, blobs):
        for name in ("a.tif", "b.tif", "a.tif"):
            assert np.array_equal(read(source(blobs, name)), expected())
        assert blobs.asked("/token") == 1
        assert blobs.asked("/box/", 403) == 0

    def test_unsigned_is_refused(self, blobs):
        bare = BandSource("scene", "red", blobs.href("a.tif"))
        with pytest.raises(AssetError, match=r"scene, asset red.*403"):
            read(bare)

    def test_an_expired_signature_is_made_anew(self, blobs):
        blobs.set(life=1.6)
        band = source(blobs, margin=0.8)
        handle(band.href, band.signer)
        first = band.signer.sign(band.href)
        assert np.array_equal(read(band), expected())
        time.sleep(0.9)
        assert np.array_equal(read(band, BOX), expected(BOX))
        assert band.signer.sign(band.href) != first
        assert blobs.asked("/box/", 403) == 0  # seen by the clock, not by a refusal

    def test_a_signature_refused_in_the_midst_is_made_anew(self, blobs):
        """Its expiry, as the service gives it, is later than the server's own."""
        blobs.set(life=3600.0)
        band = source(blobs)
        handle(band.href, band.signer)
        first = band.signer.sign(band.href)
        blobs.set(life=3600.0, accepts_after=time.time())
        assert np.array_equal(read(band), expected())
        assert band.signer.sign(band.href) != first
        assert blobs.asked("/token") == 2
        assert blobs.asked("/box/", 403) > 0

    def test_a_signature_refused_at_the_door_is_made_anew(self, blobs):
        band = source(blobs)
        band.signer.sign(band.href)
        blobs.set(accepts_after=time.time())
        assert np.array_equal(read(band), expected())
        assert blobs.asked("/token") == 2

    def test_signatures_that_open_nothing(self, blobs):
        blobs.set(accepts=False)
        with pytest.raises(AssetError, match=rf"asset red.*refused.*{blobs.endpoint}.*endpoint"):
            read(source(blobs))
        assert blobs.asked("/token") == 2

    def test_signatures_that_open_nothing_any_more(self, blobs):
        band = source(blobs)
        handle(band.href, band.signer)
        blobs.set(accepts=False)
        with pytest.raises(AssetError, match=rf"asset red.*refused.*{blobs.endpoint}"):
            read(band)

    @pytest.mark.parametrize("answer", [{"detail": "no"}, {"token": "x", "msft:expiry": "soon"}])
    def test_a_service_that_gives_no_token(self, blobs, answer):
        blobs.set(answer=answer)
        with pytest.raises(AssetError, match=r"asset red.*answers no token with its msft:expiry"):
            read(source(blobs))

    def test_no_service(self, blobs):
        lost = SharedAccessSigner(f"http://127.0.0.1:{blobs.port}/nothing", blobs.domain)
        with pytest.raises(AssetError, match=r"asset red.*nothing/acc/box.*40[34]"):
            read(BandSource("scene", "red", blobs.href("a.tif"), signer=lost))

    def test_a_missing_file_costs_no_second_signature(self, blobs):
        with pytest.raises(AssetError, match="404"):
            read(source(blobs, "none.tif"))
        assert blobs.asked("/token") == 1

    def test_an_old_signature_in_the_link_is_replaced(self, blobs):
        old = source(blobs, "a.tif?sv=2024&sig=old")
        assert np.array_equal(read(old), expected())

    def test_other_hosts_are_left_alone(self, blobs):
        for href in ("https://elsewhere/a.tif", "/data/a.tif", "a.tif"):
            assert signer(blobs).sign(href) == Signed(href)
        assert blobs.asked("/token") == 0

    def test_threads_share_a_token(self, blobs):
        with ThreadPoolExecutor(8) as pool:
            same = list(pool.map(lambda _: (read(source(blobs)) == expected()).all(), range(16)))
        assert all(same)
        assert blobs.asked("/token") == 1

    @pytest.mark.parametrize("method", ["fork", "spawn"])
    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
    def test_children_sign_for_themselves(self, blobs, method):
        band = source(blobs)
        assert pickle.loads(pickle.dumps(band)) == band
        assert np.array_equal(read(band), expected())
        context = multiprocessing.get_context(method)
        answer = context.Queue()
        child = context.Process(target=read_in_child, args=(band, answer))
        child.start()
        assert answer.get(timeout=60)
        child.join(60)
        assert child.exitcode == 0
        assert np.array_equal(read(band), expected())


class TestBearer:
    WHERE = "https://tokens.example"

    def source(self, blobs, name):
        who = BearerSigner("EARTHDATA_TOKEN", f"127.0.0.1:{blobs.port}", self.WHERE)
        return BandSource(
            "scene", "red", f"http://127.0.0.1:{blobs.port}/bearer/{name}", signer=who
        )

    def test_the_header_opens_and_reads_here_and_nowhere_else(self, blobs, monkeypatch):
        monkeypatch.setenv("EARTHDATA_TOKEN", "secret")
        blobs.set(bearer="Bearer secret")
        assert np.array_equal(read(self.source(blobs, "a.tif")), expected())
        bare = BandSource("scene", "red", f"http://127.0.0.1:{blobs.port}/bearer/b.tif")
        with pytest.raises(AssetError, match="403"):
            read(bare)
        seen = []
        thread = threading.Thread(target=lambda: seen.append(rasterio.env.hasenv()))
        thread.start()
        thread.join()
        assert seen == [False]
        assert not rasterio.env.hasenv()

    def test_no_token(self, blobs, monkeypatch):
        monkeypatch.delenv("EARTHDATA_TOKEN", raising=False)
        with pytest.raises(AssetError, match=f"red.*EARTHDATA_TOKEN is not set.*{self.WHERE}"):
            read(self.source(blobs, "a.tif"))

    def test_a_wrong_token(self, blobs, monkeypatch):
        monkeypatch.setenv("EARTHDATA_TOKEN", "old")
        blobs.set(bearer="Bearer new")
        with pytest.raises(AssetError, match=f"refused.*{self.WHERE}.*EARTHDATA_TOKEN") as caught:
            read(self.source(blobs, "a.tif"))
        assert "Bearer" not in str(caught.value)
        monkeypatch.setenv("EARTHDATA_TOKEN", "new")
        assert np.array_equal(read(self.source(blobs, "a.tif")), expected())

    def test_other_hosts_get_no_token(self, blobs, monkeypatch):
        monkeypatch.setenv("EARTHDATA_TOKEN", "secret")
        assert self.source(blobs, "a.tif").signer.sign("https://else.where/a") == Signed(
            "https://else.where/a"
        )


def test_readers_of_buckets_pay():
    assert RequesterPays().sign("https://host/a.tif") == Signed("https://host/a.tif")
    paid = RequesterPays().sign("s3://usgs-landsat/a.tif")
    assert paid.options == (("AWS_REQUEST_PAYER", "requester"),)
