"""A finished run across two zones."""

import pytest

from rscontrast.products import finish
from tests.products import painted

# The scenes of the made-up items lie nowhere.
QUIET = pytest.mark.filterwarnings("ignore:job .* no picture of its scenes")


@pytest.fixture(scope="session")
def plan():
    return painted.plan_of(painted.tiles())


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return painted.settings(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def results(plan, tmp_path_factory):
    """The maps alone, and what came of them."""
    folder = tmp_path_factory.mktemp("maps")
    return folder, painted.write_maps(folder, plan)


@pytest.fixture(scope="session")
def finished(plan, model, results):
    """Folder of the whole; look, do not touch."""
    import warnings

    folder, found = results
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "job .* no picture")
        finish(folder, plan, model, found)
    return folder
