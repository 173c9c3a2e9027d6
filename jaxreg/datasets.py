"""Small real data that come with the package."""

from jaxreg.data.datasets import pacific_sst

__all__ = ["pacific_sst"]
