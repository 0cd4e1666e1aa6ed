"""Utilities of all packages: errors, seeds, strict image reading, atomic files, the machine."""
