"""`python -m anogan` is the same as `anogan`."""

from anogan.cli import main

if __name__ == "__main__":
    main()
