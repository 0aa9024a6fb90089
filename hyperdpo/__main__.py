"""`python -m hyperdpo` is the same program as `hyperdpo`."""

from hyperdpo.cli import program

if __name__ == "__main__":
    program()
