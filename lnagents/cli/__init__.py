"""The command line, `lnagents`: a thin skin over the library.

One module per group of commands; each imports what it needs when it runs, so `--help` is quick.
"""

from lnagents.cli.app import main

__all__ = ["main"]
