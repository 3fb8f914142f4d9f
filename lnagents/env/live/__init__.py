"""What `lnagents.env.live_world` is made of: one process that plays all agents of a live network.

Read `loop` (asynchronous calls from synchronous code), `node` (one node, watched), `payments` (how
payments are made), `delegation` and `forwarding` (what agents decide about forwards), `candidates`
(routes to choose from) and `restore` (back to the beginning).
"""
