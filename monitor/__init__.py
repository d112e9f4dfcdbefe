"""Ingestion Monitor: the health of uploads to a hosted data engine, as history and incidents."""

__all__ = ["__version__"]

__version__ = "0.1.0"
