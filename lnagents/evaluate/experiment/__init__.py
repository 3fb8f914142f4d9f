"""Contests of agents on many networks: from a definition to tables and a report.

`definition` is the file that says what is run; `families` draws the networks, `contestants` makes
the agents; `contest` plays one run, `runner` all of them over several processes; `scores` reads the
results, `report` and `charts` show them.
"""
