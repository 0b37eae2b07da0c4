"""Test suites that others wrote, run natively and in the engine: ``python -m tests.engine.suites``."""
