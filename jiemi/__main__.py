"""`python -m jiemi` is the `jiemi` command."""

from jiemi.cli.main import main

main()
