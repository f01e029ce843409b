"""``python -m kexue.cli`` is the command ``kexue``."""

from kexue.cli import main

if __name__ == "__main__":
    main()
