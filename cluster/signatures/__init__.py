"""Who signed what an origin offers, judged by the keys that a descriptor names."""
