"""The command line: arguments to calls, exit codes, progress. The only package that prints.

Imports are made where they are used: `sideways check` has no need of an HTTP client.
"""

from cluster.cli.command import cli, main

__all__ = ["cli", "main"]
