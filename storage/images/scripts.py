"""Which maintainer scripts have work to do at a first installation in a guest without a service manager."""

from __future__ import annotations

import re

# Sections that debhelper adds: about services, about what an older version left, about byte-compilation. In
# our guests they change nothing; everything else in a script counts as work.
IDLE_HELPERS = ("dh_installsystemd", "dh_installsystemduser", "dh_installinit", "dh_installdeb", "dh_python3")
SECTION = re.compile(
    r"^# Automatically added by (?P<helper>[\w-]+)[^\n]*\n(?P<body>.*?)^# End automatically added section$",
    re.MULTILINE | re.DOTALL,
)
IDLE_LINE = re.compile(
    r"\s*(#.*|:|set -[eux]+|exit 0|true|dpkg-maintscript-helper\s.*"
    r"|\. /usr/share/debconf/confmodule|db_version 2\.0)?"
)


def has_work(script: bytes) -> bool:
    """False for no script, and for a shell script that consists of nothing but what is idle at a first
    installation.
    """
    text = script.decode("utf-8", "replace")
    if not text:
        return False
    if not re.match(r"#!\s*/bin/(da|ba)?sh\b", text):
        return True
    text = SECTION.sub(lambda match: "" if match["helper"] in IDLE_HELPERS else match["body"], text)
    text = text.replace("\\\n", " ")
    return any(not IDLE_LINE.fullmatch(line) for line in text.splitlines())
