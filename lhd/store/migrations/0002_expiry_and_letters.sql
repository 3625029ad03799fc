-- What a sender calls its delivery; dead letters with what came beside their bodies; plans for events that expire.
ALTER TABLE ledger ADD COLUMN sender_id TEXT;
CREATE INDEX ledger_by_sender_id ON ledger (tenant, sender_id) WHERE sender_id IS NOT NULL;

ALTER TABLE dead_letter ADD COLUMN attributes TEXT NOT NULL DEFAULT '{}';
ALTER TABLE dead_letter ADD COLUMN is_cut INTEGER NOT NULL DEFAULT 0;
CREATE INDEX dead_letter_by_delivery ON dead_letter (tenant, delivery_id);

CREATE TABLE expiry_plan (
    tenant TEXT NOT NULL, delivery_id TEXT NOT NULL, source TEXT NOT NULL, identity TEXT NOT NULL,
    correlated_event BLOB, external_event BLOB, start BLOB, reason TEXT NOT NULL, first_ms INTEGER NOT NULL, body BLOB NOT NULL, content_type TEXT NOT NULL,
    attributes TEXT NOT NULL, is_cut INTEGER NOT NULL,
    PRIMARY KEY (tenant, delivery_id)
) STRICT, WITHOUT ROWID;

-- An event that was given to a run and not yet taken, because the run is halted, is found by its delivery.
CREATE INDEX external_event_origin_by_delivery ON external_event_origin (tenant, delivery_id);
