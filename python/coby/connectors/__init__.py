"""Connectors of users, beside the venues that the core speaks to."""

from coby.connectors.host import Host, hosted, loaded

__all__ = ["Host", "hosted", "loaded"]
