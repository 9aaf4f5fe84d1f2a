"""Reading an origin: HTTP, local trees, memory; wrappers for retry and limits."""
