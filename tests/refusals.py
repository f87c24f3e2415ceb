"""Errors are held to what they name, in this order: the argument, its value, what to do."""

import re

import pytest


def refused(*named, error=ValueError):
    """`pytest.raises` for a message that begins with the first of some parts and has the others after it."""
    return pytest.raises(error, match="(?s)^" + ".*".join(re.escape(str(part)) for part in named))
