"""What repositories say about themselves: bytes in, facts out. No I/O, no clock, no chance."""
