"""Garbage collection and integrity of the storage (docs/design/storage.md)."""
