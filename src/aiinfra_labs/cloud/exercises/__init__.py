"""The exercises of chapter 4, one module a unit.

Each module is found by its place: `aiinfra_labs.course` imports every module of this package.
"""
