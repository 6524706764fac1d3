"""How a job runs on Ray: started, placed, interrupted, alone on its output, with its losses."""
