"""Numbers as text, with their units, symbols and minus signs."""

import math
from collections.abc import Callable

from suite.statistics import Interval


def thousands(number: float) -> str:
    """A count.

    >>> thousands(1024)
    '1,024'
    """
    return f"{number:,.0f}"


def three_digits(number: float) -> str:
    """A number with three significant digits.

    >>> three_digits(1029.7), three_digits(-0.04117), three_digits(2.561e-6)
    ('1,030', '−0.0412', '2.56e-6')
    """
    if not math.isfinite(number) or number == 0:
        return minus(f"{number:.3g}")
    if not 1e-4 <= abs(number) < 1e7:
        mantissa, exponent = f"{number:.2e}".split("e")
        return minus(f"{mantissa}e{int(exponent)}")
    rounded = float(f"{number:.3g}")
    return minus(f"{rounded:,.{max(0, 2 - math.floor(math.log10(abs(rounded))))}f}")


def ratio(number: float) -> str:
    """A ratio.

    >>> ratio(4.1649)
    '×4.16'
    """
    return f"×{three_digits(number)}"


def decimals(places: int) -> Callable[[float], str]:
    """A form with a fixed number of decimal places.

    >>> decimals(2)(-0.125)
    '−0.12'
    """
    return lambda number: minus(f"{number:.{places}f}")


def signed(places: int) -> Callable[[float], str]:
    """A form for differences, with a sign and a fixed number of decimal places.

    >>> signed(3)(0.0125), signed(3)(-0.0125)
    ('+0.013', '−0.013')
    """
    return lambda number: minus(f"{number:+.{places}f}")


def percent(number: float) -> str:
    """A share.

    >>> percent(0.974)
    '97%'
    """
    return f"{number:.0%}"


def seconds(value: float, form: Callable[[float], str] = three_digits) -> str:
    """A time with the unit that suits it.

    >>> seconds(0.00024)
    '240 µs'
    """
    for scale, unit in ((1, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")):
        if value >= 0.9995 * scale:
            return f"{form(value / scale)} {unit}"
    return f"{value:.3g} s"


def bounds(interval: Interval, form: Callable[[float], str] = three_digits) -> str:
    """The bounds of an interval.

    >>> bounds(Interval(0.5, 0.4, 0.6, n=6))
    '0.400 to 0.600'
    """
    if math.isnan(interval.low):
        return "no interval from so few values"
    return f"{form(interval.low)} to {form(interval.high)}"


def with_bounds(interval: Interval, form: Callable[[float], str] = three_digits) -> str:
    """An estimate with its 95% interval.

    >>> with_bounds(Interval(4.16, 3.59, 4.83, n=5), ratio)
    '×4.16 (×3.59 to ×4.83)'
    """
    return f"{form(interval.estimate)} ({bounds(interval, form)})"


def listed(items: list[str]) -> str:
    """Items as a list in a sentence.

    >>> listed(["1", "10", "100"])
    '1, 10 and 100'
    """
    *before, last = items
    return f"{', '.join(before)} and {last}" if before else last


def sentences(*texts: str) -> str:
    """Those of `texts` that are not empty, as one paragraph."""
    return " ".join(filter(None, texts))


def minus(text: str) -> str:
    """`text` of a number with a true minus sign."""
    return text.replace("-", "−", 1) if text.startswith("-") else text
