"""The contract as a tool: whether a model, scelbo's own or another package's, keeps what users rely on."""

from scelbo.testing.asked import DECODED, DIFFERENTIAL, arrays, decoded, differential, per_cell
from scelbo.testing.case import Case
from scelbo.testing.contract import Checked, ContractError, check_model, checks_of, run
from scelbo.testing.registry import CHECKS

__all__ = [
    "CHECKS",
    "DECODED",
    "DIFFERENTIAL",
    "Case",
    "Checked",
    "ContractError",
    "arrays",
    "check_model",
    "checks_of",
    "decoded",
    "differential",
    "per_cell",
    "run",
]
