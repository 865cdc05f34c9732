"""The native module is built by CMakeLists.txt; everything else stands in pyproject.toml."""

from setuptools import setup

setup(cmake_source_dir=".")
