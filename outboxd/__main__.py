"""``python -m outboxd``."""

from .cli import main

if __name__ == "__main__":
    main()
