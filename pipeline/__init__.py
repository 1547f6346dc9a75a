"""How features and pseudo labels are computed, once. `luigi --module pipeline BuildFeatures` finds its tasks here."""
