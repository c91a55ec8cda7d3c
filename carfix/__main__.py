"""`python -m carfix`, for torchrun and for machines whose scripts are not on PATH."""

from carfix.cli import main

if __name__ == "__main__":
    try:
        main()
    finally:
        # An interruption that has passed through code made from text, as dataclasses are, marks Python: it would end
        # by SIGINT, whatever the signal and the exit code were. Text without one takes the mark away.
        exec("")
