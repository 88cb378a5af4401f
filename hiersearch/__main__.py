"""``python -m hiersearch``: the command line."""

from hiersearch.cli import main

if __name__ == "__main__":
    main()
