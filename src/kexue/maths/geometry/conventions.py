"""Sign conventions, stated in every result."""

from __future__ import annotations

from dataclasses import dataclass

from kexue.errors import ConfigError

__all__ = ["CONVENTIONS", "Conventions"]


@dataclass(frozen=True)
class Conventions:
    """Signs of the curvature tensors.

    Attributes:
        riemann: +1 for ``R^a_bcd = d_c Gamma^a_bd - d_d Gamma^a_bc + Gamma^a_ec Gamma^e_bd - Gamma^a_ed Gamma^e_bc``
            (Misner, Thorne, Wheeler; articles 3998 and 4014), -1 for the opposite (Weinberg).
        ricci: +1 for ``R_bd = R^a_bad`` whatever the sign of Riemann, -1 for ``R_bd = R^a_bda``.
    """

    riemann: int = 1
    ricci: int = 1

    def __post_init__(self) -> None:
        if self.riemann not in (1, -1) or self.ricci not in (1, -1):
            raise ConfigError(f"Signs of conventions are 1 or -1, received {self}.")

    @property
    def ricci_sign(self) -> int:
        """Sign of Ricci against that of Misner, Thorne, Wheeler."""
        return self.riemann * self.ricci

    def __str__(self) -> str:
        body = "d_c Gamma^a_bd - d_d Gamma^a_bc + ..."
        riemann = f"R^a_bcd = {body}" if self.riemann > 0 else f"R^a_bcd = -({body})"
        return f"{riemann}, R_bd = {'R^a_bad' if self.ricci > 0 else 'R^a_bda'}"

    @classmethod
    def of(cls, value: Conventions | str | None) -> Conventions:
        """Conventions by name, or as they are; None is MTW.

        Raises:
            ConfigError: there are none of that name.
        """
        if value is None:
            return cls()
        if isinstance(value, cls):
            return value
        if value not in CONVENTIONS:
            raise ConfigError(f"Unknown conventions {value!r}: expected one of {', '.join(CONVENTIONS)}.")
        return CONVENTIONS[value]


CONVENTIONS = {
    "mtw": Conventions(),
    "landau-lifshitz": Conventions(),  # signature (+,-,-,-) comes with the metric
    "weinberg": Conventions(riemann=-1, ricci=1),
    "wald": Conventions(),
    "opposite-ricci": Conventions(riemann=1, ricci=-1),
}
