"""Domains: the embedded streets or prepared folders, and the batches and streams drawn from them."""

from dglab.data.domains import (
    Domain,
    InMemory,
    fingerprint,
    identity,
    open_domains,
    prepared_domains,
    streets_domains,
)
from dglab.data.streams import Joined

__all__ = [
    "Domain",
    "InMemory",
    "Joined",
    "fingerprint",
    "identity",
    "open_domains",
    "prepared_domains",
    "streets_domains",
]
