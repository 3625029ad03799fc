-- A source of several parts (partitions, files) has a cursor for each; what it reads can be said to have begun anew.
CREATE TABLE cursor_of_part (
    tenant TEXT NOT NULL, source TEXT NOT NULL, part TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (tenant, source, part)
) STRICT, WITHOUT ROWID;
INSERT INTO cursor_of_part SELECT tenant, source, '', value FROM cursor;
DROP TABLE cursor;
ALTER TABLE cursor_of_part RENAME TO cursor;

CREATE TABLE source_epoch (
    tenant TEXT NOT NULL, source TEXT NOT NULL, part TEXT NOT NULL, epoch INTEGER NOT NULL,
    PRIMARY KEY (tenant, source, part)
) STRICT, WITHOUT ROWID;
