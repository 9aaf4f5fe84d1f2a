"""One site: builds every part, joins them, runs and stops them."""
