#!/usr/bin/env python
"""The command line of the service: `uv run manage.py up` does everything."""

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webvm.settings")
    if sys.argv[1:2] == ["up"]:
        from webvm.up.entry import run_up

        sys.exit(run_up(sys.argv))
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
