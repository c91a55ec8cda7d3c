"""`python -m carfix`, for torchrun and for machines whose scripts are not on PATH."""

from carfix.cli import main

if __name__ == "__main__":
    main()
