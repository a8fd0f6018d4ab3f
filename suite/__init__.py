"""Small batch or large batch? A lecture's table of six rows, measured."""

__version__ = "0.1.0"
