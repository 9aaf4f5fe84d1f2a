"""Small files over HTTP and HTTPS, many at a time: fetched, hashed and written by a process beside ours."""
