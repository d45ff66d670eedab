"""`python -m costmodel`: the `costmodel` command."""

from costmodel.cli import main

if __name__ == "__main__":
    main()
