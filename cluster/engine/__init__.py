"""One pass over a mirror: walk, compare, fetch, publish, delete."""
