"""`python -m itmkit` is the same as `itmkit` (torchrun needs the module form)."""

from itmkit.commands import main

if __name__ == "__main__":
    main()
