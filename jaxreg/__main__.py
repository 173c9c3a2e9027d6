"""`python -m jaxreg` is the program `jaxreg`."""

from jaxreg.faces.cli import main

if __name__ == "__main__":
    main()
