"""`python -m jiemi` is the `jiemi` command."""

from jiemi.cli.entry import main

main()
