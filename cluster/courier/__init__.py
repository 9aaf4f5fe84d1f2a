"""Small files over plain HTTP, many at a time: fetched, hashed and written by a process beside ours."""
