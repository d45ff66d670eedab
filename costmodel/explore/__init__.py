"""Questions about every configuration of a design space, answered exactly or within a stated bound.

Called as `costmodel.explore(model, hw, space=, form=, ranks=, rank_multiple=, keep=, objectives=, limits=, top=,
quality=, calibration=, **workload)` it answers one as `costmodel explore` does; `help(costmodel.api.asking.explore)`
says what each takes. A name is the command's option with `_` for `-`.

`explore.explore` is the entry: `tables` prices every choice of every site once, `objectives` says what is asked of the
sums, `quality` what a choice does to the answers, and `explore.answer` sends the question to the room that answers it:

- `by_class`: configurations that cost the same are counted, not listed (`homogeneous`, `per_layer`); a small space is
  priced one configuration after another (`listing`). Exact.
- `by_kind`: the homogeneous space over several kinds of layers, of too many classes: sums over kinds that nothing
  dominates (`labels`), exact, or on a grid with its error; `extremes` and a sample for distributions.
- `by_layer`: the homogeneous space whose quality differs from layer to layer. Costs by class, the best and the frontier
  by programs over layers (`quality`); the distribution of quality on `bins`, with their error.
- `by_site`: a rank for each site, spaces of 10^300. Exact while undominated sums are few (`labels`); then supported
  points (`hull`), a knapsack on a `grid` and Lagrange `multipliers`, each with a lower bound, so that the answer states
  its gap; `extremes` and a `sample` for distributions.

`answer` holds question and answer, `distribution` and `pareto` what all rooms use, `text` numbers for people.
"""

from costmodel.explore.explore import Exploration, explore

__all__ = ["Exploration", "explore"]
