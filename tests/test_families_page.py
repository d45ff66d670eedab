"""docs/families.md says what the registry holds."""

from __future__ import annotations

from studies.families.page import PAGE, page


def test_the_page_is_what_the_registry_makes() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m studies.families.page"
