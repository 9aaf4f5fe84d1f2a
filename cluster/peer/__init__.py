"""Siblings: the wire format (no I/O), the server, the client, keys, and claims."""
