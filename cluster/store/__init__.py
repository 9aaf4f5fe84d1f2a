"""This site's disk: trees of files, and SQLite for what is true about them."""
