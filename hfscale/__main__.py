"""`python -m hfscale` is the `hfscale` command."""

from hfscale.cli import main

main()
