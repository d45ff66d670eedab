"""Questions about every configuration of a design space, answered exactly or within a stated bound.

`exploration.explore` is the entry. By space and question it chooses among cost classes (`classes`, `layers`), chains of
layers with a quality (`uneven`, `layer_quality`, `bins`), and per-site methods (`labels`, `chain`, `hull`, `grid`,
`limits`, behind `sites`); `listing` and `sweep` are the brute force that the tests compare them with.
"""

from costmodel.explore.explore import Exploration, explore

__all__ = ["Exploration", "explore"]
