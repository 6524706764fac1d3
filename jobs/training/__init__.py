"""Training on Ray Train: what jobs/train.py is made of."""
