"""Threads ahead and behind: in order, bounded, loud, and gone afterwards."""

import threading
import time

import pytest

from rscontrast.mapping.pipeline import Ahead, Behind


@pytest.fixture(autouse=True)
def no_thread_left():
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def counted(made, count=100):
    for number in range(count):
        made.append(number)
        yield number


def test_items_come_in_order_and_few_ahead():
    made = []
    with Ahead(counted(made), depth=2) as items:
        for number in items:
            time.sleep(0.001)
            assert len(made) <= number + 5
    assert made == list(range(100))


def test_it_works_ahead():
    made = []
    with Ahead(counted(made), depth=2) as items:
        assert next(items) == 0
        until = time.monotonic() + 5
        while len(made) < 3 and time.monotonic() < until:
            time.sleep(0.001)
        assert len(made) >= 3


def test_leaving_early_stops_the_thread():
    made = []
    with Ahead(counted(made), depth=1) as items:
        next(items)
    assert len(made) < 10


def test_an_error_of_the_maker_comes_after_what_was_made():
    def broken():
        yield 1
        raise OSError("block (3, 4)")

    with Ahead(broken()) as items:
        assert next(items) == 1
        with pytest.raises(OSError, match="block"):
            next(items)


def test_what_is_handed_over_is_done_in_order():
    done = []
    with Behind(done.append, depth=1) as writer:
        for number in range(50):
            writer.put(number)
    assert done == list(range(50))


def test_an_error_of_the_writer_is_raised_and_nothing_more_is_done():
    done = []

    def write(number):
        if number == 3:
            raise OSError("disk full")
        done.append(number)

    with pytest.raises(OSError, match="disk full"), Behind(write, depth=1) as writer:  # noqa: PT012
        for number in range(1000):
            writer.put(number)
    assert done == [0, 1, 2]


def test_an_error_at_the_last_item_is_raised_too():
    def write(number):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), Behind(write) as writer:
        writer.put(0)


def test_an_error_of_the_block_comes_through_and_the_rest_is_dropped():
    done = []

    def write(number):
        time.sleep(0.01)
        done.append(number)

    with pytest.raises(ValueError, match="mine"), Behind(write, depth=50) as writer:  # noqa: PT012
        for number in range(50):
            writer.put(number)
        raise ValueError("mine")
    assert len(done) < 50
