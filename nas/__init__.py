"""Architecture search: spaces, graphs, costs, strategies, evaluators and the search loop."""
