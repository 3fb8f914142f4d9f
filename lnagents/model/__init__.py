"""Plain types that all layers share; no I/O, and nothing of ours is imported.

Read `units`, then `graph`, `payment` and `view`; `topology` and `workload` are the files that users
write, `generate` draws topologies, `files` turns text into objects, `errors` is the one exception
tree. `kernel` compiles functions, for the layers that calculate; nothing here needs it.
"""
