import pytest

from rscontrast.atomic import atomic_path, write_text
from rscontrast.errors import AssetError, WriteError


@pytest.mark.parametrize("former", [None, "former"])
@pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
def test_whatever_ends_the_block_leaves_the_folder_as_it_was(tmp_path, former, stop):
    final = tmp_path / "out.json"
    if former:
        final.write_text(former)
    with pytest.raises(stop), atomic_path(final) as tmp:  # noqa: PT012
        tmp.write_text("half")
        assert tmp.suffix == final.suffix
        assert tmp.parent == final.parent
        raise stop
    assert [p.read_text() for p in tmp_path.iterdir()] == ([former] if former else [])


def test_success_replaces_and_makes_folders(tmp_path):
    final = tmp_path / "a" / "b" / "out.txt"
    for text in ("one", "zwei \N{SNOWMAN}"):
        write_text(final, text)
        assert final.read_text(encoding="utf-8") == text
    assert list(final.parent.iterdir()) == [final]


def test_folder_that_is_a_file(tmp_path):
    (tmp_path / "a").write_text("a file")
    with pytest.raises(WriteError, match=r"out\.txt: not written"):
        write_text(tmp_path / "a" / "out.txt", "text")
    assert (tmp_path / "a").read_text() == "a file"


def test_final_name_that_is_a_folder(tmp_path):
    (tmp_path / "out" / "full").mkdir(parents=True)
    with pytest.raises(WriteError):
        write_text(tmp_path / "out", "text")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_unreadable_input_inside_is_not_blamed_on_the_output(tmp_path):
    with pytest.raises(AssetError, match=r"^item a$"), atomic_path(tmp_path / "out"):
        raise AssetError("item a")
    assert not list(tmp_path.iterdir())
