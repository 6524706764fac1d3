"""What the evaluation job writes: tables, the page, and the benchmark that others score against."""
