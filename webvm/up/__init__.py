"""`manage.py up`: everything between a fresh clone and a running service. See docs/design/up.md."""
