"""`python -m flowfit` is the command `flowfit`."""

from flowfit.fitting.cli.main import run

if __name__ == "__main__":
    run()
