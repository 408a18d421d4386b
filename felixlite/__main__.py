"""`python -m felixlite` is the command `felixlite`."""

from felixlite.cli.main import main

main()
