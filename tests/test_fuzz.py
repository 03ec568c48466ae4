"""A few wild cases for every stage and every reader; tests/fuzz.py does the same for as long as one likes."""

import fuzz
import pytest


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("sort", "name"), fuzz.targets())
def test_a_wild_case(sort, name, seed):
    fuzz.carry(sort, name, seed)
