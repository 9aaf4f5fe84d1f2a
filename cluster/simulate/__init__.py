"""What a cluster would do: the planner's own decisions on simulated links. No sockets, no clock, no files."""
