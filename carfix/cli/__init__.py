"""The command line: each file of this package parses one command and calls one library function."""

from carfix.cli.app import main

__all__ = ["main"]
