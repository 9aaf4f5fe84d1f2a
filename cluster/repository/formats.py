"""The types of repository that descriptors may name."""

from __future__ import annotations

from cluster.repository.alpine import Alpine
from cluster.repository.apt import Apt
from cluster.repository.arch import Arch
from cluster.repository.base import Format
from cluster.repository.plain import Plain
from cluster.repository.pypi import Pypi
from cluster.repository.yum import Yum

_ALL: tuple[Format, ...] = (Apt(), Yum(), Pypi(), Arch(), Alpine(), Plain())

FORMATS = {one.name: one for one in _ALL}
"""Each by its name."""
