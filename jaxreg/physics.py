"""The flow of any cost, integrated by diffrax (extra `physics`)."""

from jaxreg.mechanics.integrated_flow import integrate_flow

__all__ = ["integrate_flow"]
