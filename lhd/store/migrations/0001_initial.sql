-- Every key begins with the tenant. A "body" is a deterministically serialised message of littlehorse.model.
-- Times are milliseconds since the epoch. "run" is the printed form of a WfRunId, ancestors joined by "_".

-- Of these three the tenant is empty: they belong to the cluster.
CREATE TABLE tenant (
    tenant TEXT NOT NULL, id TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE principal (
    tenant TEXT NOT NULL, id TEXT NOT NULL,
    is_admin INTEGER NOT NULL, tenants TEXT NOT NULL, created_ms INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE quota (
    tenant TEXT NOT NULL, tenant_id TEXT NOT NULL, principal_id TEXT NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (tenant, tenant_id, principal_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE wf_spec (
    tenant TEXT NOT NULL, name TEXT NOT NULL, major_version INTEGER NOT NULL, revision INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (tenant, name, major_version, revision)
) STRICT, WITHOUT ROWID;

CREATE TABLE task_def (
    tenant TEXT NOT NULL, name TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE external_event_def (
    tenant TEXT NOT NULL, name TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE workflow_event_def (
    tenant TEXT NOT NULL, name TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE user_task_def (
    tenant TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (tenant, name, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE struct_def (
    tenant TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (tenant, name, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE wf_run (
    tenant TEXT NOT NULL, run TEXT NOT NULL,
    wf_spec_name TEXT NOT NULL, major_version INTEGER NOT NULL, revision INTEGER NOT NULL,
    status INTEGER NOT NULL, start_ms INTEGER NOT NULL, parent TEXT, body BLOB NOT NULL,
    PRIMARY KEY (tenant, run)
) STRICT, WITHOUT ROWID;
CREATE INDEX wf_run_by_start ON wf_run (tenant, start_ms, run);
CREATE INDEX wf_run_by_status ON wf_run (tenant, status, start_ms, run);
CREATE INDEX wf_run_by_spec ON wf_run (tenant, wf_spec_name, start_ms, run);
CREATE INDEX wf_run_by_spec_and_status ON wf_run (tenant, wf_spec_name, status, start_ms, run);
CREATE INDEX wf_run_by_version ON wf_run (tenant, wf_spec_name, major_version, revision, start_ms, run);
CREATE INDEX wf_run_by_parent ON wf_run (tenant, parent, start_ms, run) WHERE parent IS NOT NULL;

CREATE TABLE node_run (
    tenant TEXT NOT NULL, run TEXT NOT NULL, thread INTEGER NOT NULL, position INTEGER NOT NULL,
    open INTEGER NOT NULL, event_def TEXT, status INTEGER NOT NULL, arrival_ms INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (tenant, run, thread, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX node_run_open ON node_run (tenant, run) WHERE open = 1;
CREATE INDEX node_run_by_event ON node_run (tenant, event_def, status, arrival_ms, run, thread, position)
    WHERE event_def IS NOT NULL;

CREATE TABLE variable (
    tenant TEXT NOT NULL, run TEXT NOT NULL, thread INTEGER NOT NULL, name TEXT NOT NULL,
    value BLOB NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (tenant, run, thread, name)
) STRICT, WITHOUT ROWID;

-- The values of searchable variables, each with its place in the order of a search.
CREATE TABLE indexed_value (
    tenant TEXT NOT NULL, run TEXT NOT NULL, thread INTEGER NOT NULL, name TEXT NOT NULL, value BLOB NOT NULL,
    wf_spec_name TEXT NOT NULL, major_version INTEGER NOT NULL, revision INTEGER NOT NULL, created_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, run, thread, name, value)
) STRICT, WITHOUT ROWID;
CREATE INDEX indexed_value_by_value ON indexed_value (tenant, wf_spec_name, name, value, created_ms, run, thread);

CREATE TABLE task_run (
    tenant TEXT NOT NULL, run TEXT NOT NULL, task_guid TEXT NOT NULL, open INTEGER NOT NULL,
    task_def TEXT NOT NULL, status INTEGER NOT NULL, scheduled_ms INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (tenant, run, task_guid)
) STRICT, WITHOUT ROWID;
CREATE INDEX task_run_open ON task_run (tenant, run) WHERE open = 1;
CREATE INDEX task_run_by_def ON task_run (tenant, task_def, scheduled_ms, run, task_guid);
CREATE INDEX task_run_by_status ON task_run (tenant, task_def, status, scheduled_ms, run, task_guid);

CREATE TABLE inactive_thread_run (
    tenant TEXT NOT NULL, run TEXT NOT NULL, thread INTEGER NOT NULL, open INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (tenant, run, thread)
) STRICT, WITHOUT ROWID;

CREATE TABLE user_task_run (
    tenant TEXT NOT NULL, run TEXT NOT NULL, user_task_guid TEXT NOT NULL, open INTEGER NOT NULL,
    user_task_def TEXT NOT NULL, status INTEGER NOT NULL, user_id TEXT, user_group TEXT, scheduled_ms INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (tenant, run, user_task_guid)
) STRICT, WITHOUT ROWID;
CREATE INDEX user_task_run_open ON user_task_run (tenant, run) WHERE open = 1;
CREATE INDEX user_task_run_by_status ON user_task_run (tenant, status, scheduled_ms, run, user_task_guid);
CREATE INDEX user_task_run_by_def ON user_task_run (tenant, user_task_def, scheduled_ms, run, user_task_guid);
CREATE INDEX user_task_run_by_user ON user_task_run (tenant, user_id, status, scheduled_ms, run, user_task_guid);
CREATE INDEX user_task_run_by_group ON user_task_run (tenant, user_group, status, scheduled_ms, run, user_task_guid);

CREATE TABLE checkpoint (
    tenant TEXT NOT NULL, run TEXT NOT NULL, task_guid TEXT NOT NULL, number INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (tenant, run, task_guid, number)
) STRICT, WITHOUT ROWID;

-- The rowid keeps the order in which WorkflowEvents were thrown.
CREATE TABLE workflow_event (
    arrival INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL, run TEXT NOT NULL, event_def TEXT NOT NULL, number INTEGER NOT NULL,
    created_ms INTEGER NOT NULL, body BLOB NOT NULL,
    UNIQUE (tenant, run, event_def, number)
) STRICT;
CREATE INDEX workflow_event_by_def ON workflow_event (tenant, event_def, created_ms, run, number);

CREATE TABLE workflow_events_thrown (
    tenant TEXT NOT NULL, run TEXT NOT NULL, event_def TEXT NOT NULL, number INTEGER NOT NULL,
    PRIMARY KEY (tenant, run, event_def)
) STRICT, WITHOUT ROWID;

-- The rowid keeps the order of arrival, which decides between events of the same millisecond.
CREATE TABLE external_event (
    arrival INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL, run TEXT NOT NULL, event_def TEXT NOT NULL, guid TEXT NOT NULL,
    open INTEGER NOT NULL, created_ms INTEGER NOT NULL, body BLOB NOT NULL,
    UNIQUE (tenant, run, event_def, guid)
) STRICT;
CREATE INDEX external_event_by_def ON external_event (tenant, event_def, created_ms, run, guid);
CREATE INDEX external_event_by_claim ON external_event (tenant, event_def, open, created_ms, run, guid);
CREATE INDEX external_event_by_guid ON external_event (tenant, guid);
CREATE INDEX external_event_open ON external_event (tenant, run) WHERE open = 1;

CREATE TABLE node_output (
    tenant TEXT NOT NULL, run TEXT NOT NULL, thread INTEGER NOT NULL, node_name TEXT NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (tenant, run, thread, node_name)
) STRICT, WITHOUT ROWID;

CREATE TABLE external_event_origin (
    tenant TEXT NOT NULL, run TEXT NOT NULL, event_def TEXT NOT NULL, guid TEXT NOT NULL, delivery_id TEXT NOT NULL,
    PRIMARY KEY (tenant, run, event_def, guid)
) STRICT, WITHOUT ROWID;

CREATE TABLE correlated_event (
    tenant TEXT NOT NULL, event_def TEXT NOT NULL, key TEXT NOT NULL,
    correlated INTEGER NOT NULL, created_ms INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (tenant, event_def, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX correlated_event_by_time ON correlated_event (tenant, event_def, created_ms, key);
CREATE INDEX correlated_event_by_outcome ON correlated_event (tenant, event_def, correlated, created_ms, key);

CREATE TABLE correlated_event_origin (
    tenant TEXT NOT NULL, event_def TEXT NOT NULL, key TEXT NOT NULL, delivery_id TEXT NOT NULL,
    PRIMARY KEY (tenant, event_def, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE queued_event (
    tenant TEXT NOT NULL, event_def TEXT NOT NULL, key TEXT NOT NULL, number INTEGER NOT NULL,
    delivery_id TEXT NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (tenant, event_def, key, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE marker (
    tenant TEXT NOT NULL, event_def TEXT NOT NULL, key TEXT NOT NULL,
    run TEXT NOT NULL, thread INTEGER NOT NULL, position INTEGER NOT NULL,
    PRIMARY KEY (tenant, event_def, key, run, thread, position)
) STRICT, WITHOUT ROWID;

CREATE INDEX marker_by_key ON marker (tenant, key);

CREATE TABLE timer (
    tenant TEXT NOT NULL, run TEXT NOT NULL, action TEXT NOT NULL, target TEXT NOT NULL, due_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, run, action, target)
) STRICT, WITHOUT ROWID;
CREATE INDEX timer_by_due ON timer (due_ms, tenant, run, action, target);

CREATE TABLE queued_task (
    place INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL, run TEXT NOT NULL, task_guid TEXT NOT NULL, task_def TEXT NOT NULL,
    UNIQUE (tenant, run, task_guid)
) STRICT;
CREATE INDEX queued_task_by_def ON queued_task (tenant, task_def);

CREATE TABLE scheduled_wf_run (
    tenant TEXT NOT NULL, id TEXT NOT NULL, major_version INTEGER, revision INTEGER,
    wf_spec_name TEXT NOT NULL, spec_major INTEGER NOT NULL, spec_revision INTEGER NOT NULL,
    created_ms INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX scheduled_wf_run_by_spec ON scheduled_wf_run (tenant, wf_spec_name, created_ms, id);

CREATE TABLE bulk_job (
    tenant TEXT NOT NULL, id TEXT NOT NULL, status INTEGER NOT NULL, created_ms INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX bulk_job_by_time ON bulk_job (tenant, created_ms, id);
CREATE INDEX bulk_job_by_status ON bulk_job (status, tenant, created_ms, id);

CREATE TABLE migration_plan (
    tenant TEXT NOT NULL, name TEXT NOT NULL, wf_spec_name TEXT NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE metric_count (
    tenant TEXT NOT NULL, metric TEXT NOT NULL, name TEXT NOT NULL, detail TEXT NOT NULL,
    major_version INTEGER NOT NULL, revision INTEGER NOT NULL, window_ms INTEGER NOT NULL, measure TEXT NOT NULL,
    count INTEGER NOT NULL, least_ms INTEGER NOT NULL, most_ms INTEGER NOT NULL, total_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, metric, window_ms, name, detail, major_version, revision, measure)
) STRICT, WITHOUT ROWID;
CREATE INDEX metric_count_by_time ON metric_count (window_ms);

CREATE TABLE seen_delivery (
    tenant TEXT NOT NULL, source TEXT NOT NULL, identity TEXT NOT NULL,
    delivery_id TEXT NOT NULL, digest BLOB NOT NULL, seen_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, source, identity)
) STRICT, WITHOUT ROWID;
CREATE INDEX seen_delivery_by_time ON seen_delivery (seen_ms);

CREATE TABLE dead_letter (
    tenant TEXT NOT NULL, source TEXT NOT NULL, identity TEXT NOT NULL,
    delivery_id TEXT NOT NULL, reason TEXT NOT NULL, first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL,
    count INTEGER NOT NULL, body BLOB NOT NULL, content_type TEXT NOT NULL,
    PRIMARY KEY (tenant, source, identity)
) STRICT, WITHOUT ROWID;
CREATE INDEX dead_letter_by_time ON dead_letter (last_ms);

CREATE TABLE ledger (
    tenant TEXT NOT NULL, delivery_id TEXT NOT NULL, source TEXT NOT NULL, identity TEXT NOT NULL,
    received_ms INTEGER NOT NULL, verdict TEXT NOT NULL, reason TEXT NOT NULL, route TEXT NOT NULL,
    event_def TEXT NOT NULL, correlation_key TEXT, run TEXT, guid TEXT, outcome TEXT, outcome_ms INTEGER,
    PRIMARY KEY (tenant, delivery_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX ledger_by_guid ON ledger (tenant, guid) WHERE guid IS NOT NULL;
CREATE INDEX ledger_by_key ON ledger (tenant, correlation_key) WHERE correlation_key IS NOT NULL;
CREATE INDEX ledger_by_run ON ledger (tenant, run) WHERE run IS NOT NULL;
CREATE INDEX ledger_by_time ON ledger (received_ms);

CREATE TABLE cursor (
    tenant TEXT NOT NULL, source TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (tenant, source)
) STRICT, WITHOUT ROWID;
