"""`python -m lnagents` is the command line."""

from lnagents.cli import main

if __name__ == "__main__":
    main()
