from collections.abc import Callable, Mapping

import pytest

from cluster.eventloop import Loop
from cluster.model import Cluster
from tests.peer.cluster import make_cluster, moved


def pytest_asyncio_loop_factories(config, item) -> Mapping[str, Callable]:
    """The loop that a daemon runs on."""
    return {"uvloop": Loop}


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Cluster:
    return make_cluster(str(tmp_path_factory.mktemp("cluster")))


@pytest.fixture
def cluster(made, tmp_path) -> Cluster:
    """A copy of a cluster with keys, on ports of its own."""
    return moved(made, str(tmp_path))
