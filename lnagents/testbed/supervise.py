"""Keeps a program running on the native backend, as a restart policy does for containers.

Aperture ends whenever it loses its stream of LND's invoices. A shell that waits for it and starts
it again stands in its place: it is the process that the backend knows, and leads the group that
gets the backend's signals.
"""

from __future__ import annotations

from collections.abc import Sequence

FIRST_SECONDS = 3
"""A program that ends sooner than this after its first start cannot run: it is given up."""
PAUSE_SECONDS = 1
"""Between its end and its next start; what it needs may be starting, too."""

_SCRIPT = f"""\
stop=
trap 'stop=1' TERM INT HUP
first=$(date +%s)
while :; do
    "$@" &
    child=$!
    wait $child
    status=$?
    # A signal ends `wait` early.
    while kill -0 $child 2>/dev/null; do wait $child; status=$?; done
    [ -z "$stop" ] || exit 0
    [ $(($(date +%s) - first)) -ge {FIRST_SECONDS} ] || exit $status
    echo "ended with $status, is started again"
    sleep {PAUSE_SECONDS}
    [ -z "$stop" ] || exit 0
done
"""


def supervised(command: Sequence[str]) -> list[str]:
    """The command that runs `command`, and runs it again whenever it ends by itself.

    It ends by SIGTERM to it and what it runs, or with the status of a first run that was too short.
    """
    return ["sh", "-c", _SCRIPT, "supervisor", *command]
