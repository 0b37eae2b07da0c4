"""How much saves store and move, beside restic and borg: `uv run python -m tests.bench.storage`."""
