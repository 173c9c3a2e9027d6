"""Regression as mechanics: flow, phase space, path integral, Langevin sampling."""
