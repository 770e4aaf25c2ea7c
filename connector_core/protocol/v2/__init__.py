"""The protocol's second generation, `flyteidl2.connector`, as engines of the 2.x line speak it.

It needs the extra `v2`, and nothing outside of this package imports it before it is known to be wanted.
"""

from connector_core.protocol.v2.dialect import V2
from connector_core.protocol.v2.shared import DESCRIPTOR, contradictions

__all__ = ["DESCRIPTOR", "V2", "contradictions"]
