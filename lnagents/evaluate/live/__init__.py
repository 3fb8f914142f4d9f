"""Agents on real nodes: one daemon beside each, the same payments for all who are compared.

`plan` says what is run, `stage` draws the network and the payments of one seed, `conditions` who
decides. `play` is one run, the same for both worlds: `daemons` lets real daemons decide on a live
network, `twins` the same actors in the twin. `runner` makes what has no result yet, `results` keeps
it, `scores` and `page` say what came out.

The daemons' rounds begin when the runner asks for them, all at the same time, between the payments
of one round and those of the next, and payments are sent by LND itself. So whoever decides meets
the same traffic, a busy machine makes a run slower but not another one, and the twin can live
through exactly the same: what is left between the two is the gap between simulation and reality.
"""
