"""The signature of a metric whose chart reaches behind a horizon: outside of it, where t is the time."""

import pytest

from kexue.maths.geometry import Metric

SPHERE = "r^2*dtheta^2 + r^2*sin(theta)^2*dphi^2"


@pytest.mark.parametrize(
    ("line", "signs"),
    [
        (f"-(1-2*M/r)*dt^2 + dr^2/(1-2*M/r) + {SPHERE}", (-1, 1, 1, 1)),
        (f"(1-2*M/r)*dt^2 - dr^2/(1-2*M/r) - ({SPHERE})", (1, -1, -1, -1)),
        (f"-(1-2*M/r+Q^2/r^2)*dt^2 + dr^2/(1-2*M/r+Q^2/r^2) + {SPHERE}", (-1, 1, 1, 1)),
        ("-(r^2-M)*dt^2 + dr^2/(r^2-M) + r^2*dphi^2", (-1, 1, 1)),
        ("dx^2 + x^2*dy^2", (1, 1)),
    ],
)
def test_signs(line, signs):
    assert Metric.from_line_element(line).signs == signs
