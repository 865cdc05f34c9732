"""`python -m ptqsr`."""

from ptqsr.cli import main

main()
