"""How networks are trained: the recipe, the trainer, its checkpoints, and the final training of a winner."""
