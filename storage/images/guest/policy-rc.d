#!/bin/sh
# No service manager runs in this guest: packages may not start services.
exit 101
