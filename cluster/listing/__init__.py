"""Bytes to Listing. No I/O."""
