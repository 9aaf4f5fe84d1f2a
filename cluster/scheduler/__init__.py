"""When passes begin: the loop that sleeps and wakes, what wakes it, and the commands around a pass."""
