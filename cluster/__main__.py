"""`python -m cluster` is `sideways`."""

from cluster.cli import main

main()
