"""What a resumed run shares with the one that it continues is compared as JSON has it."""

from __future__ import annotations

import pytest

from validate.errors import RunError
from validate.store.settings import require_same


@pytest.mark.parametrize("odd", [True, "1", [1], None, 2])
def test_only_the_same_value_is_the_same(odd: object) -> None:
    require_same({"passes": 1}, {"passes": 1}, ["passes"])
    for earlier, now in (({"passes": odd}, {"passes": 1}), ({"passes": 1}, {"passes": odd})):
        with pytest.raises(RunError, match="cannot resume with another passes"):
            require_same(earlier, now, ["passes"])
