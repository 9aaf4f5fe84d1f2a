from collections.abc import Callable, Mapping

import pytest
import uvloop

from cluster.model import Cluster
from tests.peer.cluster import make_cluster


def pytest_asyncio_loop_factories(config, item) -> Mapping[str, Callable]:
    """The loop that a daemon runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def cluster(tmp_path) -> Cluster:
    return make_cluster(str(tmp_path))
