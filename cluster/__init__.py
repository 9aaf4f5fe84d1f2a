"""Sideways: several sites run one public mirror service together."""

__version__ = "0.1.0"
