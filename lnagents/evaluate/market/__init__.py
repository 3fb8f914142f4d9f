"""What selling and buying hints is good for, measured in the twin.

`players` are the nodes: payers that decide as the daemon does, by its own functions, and sellers,
some of whom lie. `plays` says who does what in a run, `session` is one run, `study` all runs of a
definition, `findings` what they say. `live` asks the same of real nodes.
"""
