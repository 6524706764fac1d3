"""The search for the losses' weights: its trials, how they stand, and what is told of them."""
