"""The seed paper taken literally: flow, phase space, path integral, Langevin."""
