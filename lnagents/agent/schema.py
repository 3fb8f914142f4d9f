"""Tables of an agent's database, one script per version; a released script never changes."""

from __future__ import annotations

VERSION_1 = """
CREATE TABLE rounds (
    round INTEGER PRIMARY KEY,
    started_at REAL NOT NULL,
    observation TEXT NOT NULL
) STRICT;

CREATE TABLE decisions (
    id INTEGER PRIMARY KEY,
    round INTEGER NOT NULL,
    at REAL NOT NULL,
    subject TEXT NOT NULL,
    verdict TEXT NOT NULL,
    change TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;
CREATE INDEX decisions_by_round ON decisions (round);

-- What was set when the agent took a channel over (JSON).
CREATE TABLE found_policies (
    channel_point TEXT PRIMARY KEY,
    policy TEXT NOT NULL
) STRICT;

CREATE TABLE fee_updates (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    channel_point TEXT NOT NULL
) STRICT;
CREATE INDEX fee_updates_by_time ON fee_updates (at);

CREATE TABLE rewards (
    round INTEGER PRIMARY KEY,
    fees_earned_msat INTEGER NOT NULL,
    fees_paid_msat INTEGER NOT NULL,
    hint_costs_msat INTEGER NOT NULL,
    hint_income_msat INTEGER NOT NULL,
    failed_attempts INTEGER NOT NULL,
    network_term REAL NOT NULL,
    total REAL NOT NULL
) STRICT;

CREATE TABLE payments (
    payment_hash TEXT PRIMARY KEY,
    request TEXT NOT NULL,
    destination TEXT NOT NULL,
    amount_msat INTEGER NOT NULL CHECK (amount_msat > 0),
    max_fee_msat INTEGER NOT NULL CHECK (max_fee_msat >= 0),
    purpose TEXT NOT NULL CHECK (purpose IN ('payment', 'hint')),
    state TEXT NOT NULL CHECK (state IN ('requested', 'in_flight', 'settled', 'failed')),
    fee_msat INTEGER NOT NULL DEFAULT 0,
    preimage BLOB NOT NULL DEFAULT x'',
    reason TEXT NOT NULL DEFAULT '',
    requested_at REAL NOT NULL,
    resolved_at REAL
) STRICT;
CREATE INDEX payments_by_state ON payments (state) WHERE state IN ('requested', 'in_flight');

CREATE TABLE attempts (
    id INTEGER PRIMARY KEY,
    payment_hash TEXT NOT NULL REFERENCES payments,
    route TEXT NOT NULL,
    fee_msat INTEGER NOT NULL,
    probability REAL NOT NULL,
    reason TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('in_flight', 'settled', 'failed')),
    failure_code INTEGER,
    failure_index INTEGER,
    started_at REAL NOT NULL,
    resolved_at REAL
) STRICT;
CREATE INDEX attempts_by_payment ON attempts (payment_hash);

-- What settled, per minute, so that a budget is a sum over few rows.
CREATE TABLE spending (
    minute INTEGER NOT NULL,
    purpose TEXT NOT NULL,
    msat INTEGER NOT NULL,
    PRIMARY KEY (minute, purpose)
) STRICT, WITHOUT ROWID;

-- Settled ones, as the node's own history has them; it gives each a time of its own.
CREATE TABLE forwards (
    timestamp_ns INTEGER PRIMARY KEY,
    incoming_scid INTEGER NOT NULL,
    outgoing_scid INTEGER NOT NULL,
    incoming_msat INTEGER NOT NULL,
    outgoing_msat INTEGER NOT NULL,
    fee_msat INTEGER NOT NULL
) STRICT;

CREATE TABLE failed_forwards (
    id INTEGER PRIMARY KEY,
    timestamp_ns INTEGER NOT NULL,
    incoming_scid INTEGER NOT NULL,
    outgoing_scid INTEGER NOT NULL,
    outgoing_msat INTEGER NOT NULL,
    detail TEXT NOT NULL
) STRICT;

CREATE TABLE liquidity (
    scid INTEGER PRIMARY KEY,
    low_msat INTEGER NOT NULL,
    high_msat INTEGER NOT NULL,
    capacity_msat INTEGER NOT NULL,
    at REAL NOT NULL
) STRICT;

CREATE TABLE hints (
    scid INTEGER NOT NULL,
    source TEXT NOT NULL,
    amount_msat INTEGER NOT NULL,
    probability REAL NOT NULL,
    issued_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    PRIMARY KEY (scid, source)
) STRICT, WITHOUT ROWID;

CREATE TABLE purchases (
    nonce TEXT PRIMARY KEY,
    seller_url TEXT NOT NULL,
    seller_key TEXT NOT NULL,
    path TEXT NOT NULL,
    price_msat INTEGER NOT NULL,
    macaroon TEXT NOT NULL,
    payment_request TEXT NOT NULL,
    payment_hash TEXT NOT NULL UNIQUE,
    created_at REAL NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('challenged', 'paid', 'delivered', 'failed')),
    preimage BLOB NOT NULL,
    document BLOB NOT NULL,
    reason TEXT NOT NULL
) STRICT;

CREATE TABLE sales (
    payment_hash TEXT PRIMARY KEY,
    token_id TEXT NOT NULL,
    path TEXT NOT NULL,
    price_msat INTEGER NOT NULL,
    answer BLOB NOT NULL,
    sold_at REAL NOT NULL
) STRICT;

CREATE TABLE checkpoints (
    id INTEGER PRIMARY KEY,
    round INTEGER NOT NULL,
    at REAL NOT NULL,
    data BLOB NOT NULL
) STRICT;
"""

VERSION_2 = """
-- Who gave a hint (empty: not known), and what was believed before it came.
ALTER TABLE hints ADD COLUMN issuer TEXT NOT NULL DEFAULT '';
ALTER TABLE hints ADD COLUMN prior REAL NOT NULL DEFAULT 0.5;

-- Hints that an attempt put to the test.
CREATE TABLE hint_outcomes (
    id INTEGER PRIMARY KEY,
    seller_key TEXT NOT NULL,
    probability REAL NOT NULL,
    prior REAL NOT NULL,
    passed INTEGER NOT NULL CHECK (passed IN (0, 1)),
    at REAL NOT NULL
) STRICT;

-- Evidence (JSON) that convinces others.
CREATE TABLE broken_promises (
    id INTEGER PRIMARY KEY,
    seller_key TEXT NOT NULL,
    evidence TEXT NOT NULL,
    reason TEXT NOT NULL,
    at REAL NOT NULL
) STRICT;
"""

VERSION_3 = """
-- Purchases that did not go as they should have; `error` names the exception.
CREATE TABLE incidents (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    seller_key TEXT NOT NULL,
    path TEXT NOT NULL,
    error TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;
"""

VERSION_4 = """
-- HTLCs that were let through with a pass that was sold here; an unknown end counts as settled.
CREATE TABLE pass_uses (
    incoming_channel TEXT NOT NULL,
    incoming_htlc INTEGER NOT NULL,
    pass_id BLOB NOT NULL,
    payment_hash TEXT NOT NULL,
    amount_msat INTEGER NOT NULL,
    at REAL NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('under_way', 'settled', 'failed', 'unknown')),
    PRIMARY KEY (incoming_channel, incoming_htlc)
) STRICT, WITHOUT ROWID;

-- HTLCs that presented what did not let them through; `error` names the `PassRefusal`.
CREATE TABLE pass_refusals (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    pass_id BLOB NOT NULL,
    incoming_channel TEXT NOT NULL,
    payment_hash TEXT NOT NULL,
    channel TEXT NOT NULL,
    amount_msat INTEGER NOT NULL,
    error TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;

-- Attempts that presented an own pass to hop `hop` of their route.
CREATE TABLE pass_attempts (
    attempt INTEGER NOT NULL REFERENCES attempts,
    hop INTEGER NOT NULL,
    pass_id BLOB NOT NULL,
    seller_key TEXT NOT NULL,
    amount_msat INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('under_way', 'settled', 'passed', 'refused', 'lost')),
    PRIMARY KEY (attempt, hop)
) STRICT, WITHOUT ROWID;

-- Random bytes from which keys are derived.
CREATE TABLE secrets (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
"""

VERSION_5 = """
-- What the node carried in the round.
ALTER TABLE rewards ADD COLUMN forwarded_msat INTEGER NOT NULL DEFAULT 0;
"""

VERSION_6 = """
-- Which product a hint came with; a route quote is one about each edge of its route.
ALTER TABLE hints ADD COLUMN product TEXT NOT NULL DEFAULT 'liquidity';
ALTER TABLE hint_outcomes ADD COLUMN product TEXT NOT NULL DEFAULT 'liquidity';
"""

VERSION_7 = """
-- Payments have a third purpose, which a CHECK cannot be told later: made anew around the old rows.
-- Attempts refer to them, so that is looked at once all is in place.
PRAGMA defer_foreign_keys = ON;
CREATE TABLE old_payments AS SELECT * FROM payments;
DROP TABLE payments;
CREATE TABLE payments (
    payment_hash TEXT PRIMARY KEY,
    request TEXT NOT NULL,
    destination TEXT NOT NULL,
    amount_msat INTEGER NOT NULL CHECK (amount_msat > 0),
    max_fee_msat INTEGER NOT NULL CHECK (max_fee_msat >= 0),
    purpose TEXT NOT NULL CHECK (purpose IN ('payment', 'hint', 'forward')),
    state TEXT NOT NULL CHECK (state IN ('requested', 'in_flight', 'settled', 'failed')),
    fee_msat INTEGER NOT NULL DEFAULT 0,
    preimage BLOB NOT NULL DEFAULT x'',
    reason TEXT NOT NULL DEFAULT '',
    requested_at REAL NOT NULL,
    resolved_at REAL
) STRICT;
INSERT INTO payments SELECT * FROM old_payments;
DROP TABLE old_payments;
CREATE INDEX payments_by_state ON payments (state) WHERE state IN ('requested', 'in_flight');

-- HTLCs whose way was left to this agent, and that it took on. `settling`: the preimage is handed
-- to the node; `lost`: paid onward, and the HTLC is gone.
CREATE TABLE delegations (
    incoming_channel TEXT NOT NULL,
    incoming_htlc INTEGER NOT NULL,
    payment_hash TEXT NOT NULL REFERENCES payments,
    incoming_msat INTEGER NOT NULL,
    incoming_expiry INTEGER NOT NULL,
    quoted INTEGER NOT NULL CHECK (quoted IN (0, 1)),
    state TEXT NOT NULL CHECK (state IN ('accepted', 'settling', 'settled', 'failed', 'lost')),
    at REAL NOT NULL,
    resolved_at REAL,
    PRIMARY KEY (incoming_channel, incoming_htlc)
) STRICT, WITHOUT ROWID;
-- Nothing is paid onward for two HTLCs of one hash.
CREATE UNIQUE INDEX delegations_by_hash ON delegations (payment_hash) WHERE state != 'failed';

-- Those that it did not take on; `error` names the `DelegationRefusal`.
CREATE TABLE delegation_refusals (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    incoming_channel TEXT NOT NULL,
    incoming_htlc INTEGER NOT NULL,
    payment_hash TEXT NOT NULL,
    incoming_msat INTEGER NOT NULL,
    error TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;
"""

SCHEMA = (VERSION_1, VERSION_2, VERSION_3, VERSION_4, VERSION_5, VERSION_6, VERSION_7)
