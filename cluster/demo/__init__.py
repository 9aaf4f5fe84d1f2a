"""A whole cluster on one machine: an origin, three sites with their daemons, and what they save.

Everything runs in one temporary folder, on loopback, on ports that are free; all of it is gone at the end.
"""

from cluster.demo.play import run_demo

__all__ = ["run_demo"]
