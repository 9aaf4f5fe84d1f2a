"""Descriptors (XML), sites and cluster (TOML) to the model."""
