"""``python -m cli``: the same as the program ``outlast``."""

from cli.app import main

main()
