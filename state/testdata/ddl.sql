CREATE TABLE IF NOT EXISTS spanledger_pipelines (
  pipeline STRING(64) NOT NULL,
  incarnation INT64 NOT NULL,
  epoch INT64 NOT NULL,
  claim_worker STRING(512) NOT NULL,
  claim_epoch INT64 NOT NULL,
  created_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (pipeline);

CREATE TABLE IF NOT EXISTS spanledger_incarnations (
  pipeline STRING(64) NOT NULL,
  incarnation INT64 NOT NULL,
  source_database STRING(MAX) NOT NULL,
  stream STRING(MAX) NOT NULL,
  identity STRING(MAX) NOT NULL,
  config_digest STRING(MAX) NOT NULL,
  start_time TIMESTAMP NOT NULL,
  start_snapshot BOOL NOT NULL,
  reason STRING(MAX) NOT NULL,
  opened_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (pipeline, incarnation),
  INTERLEAVE IN PARENT spanledger_pipelines ON DELETE CASCADE;

CREATE TABLE IF NOT EXISTS spanledger_gaps (
  pipeline STRING(64) NOT NULL,
  incarnation INT64 NOT NULL,
  reason STRING(32) NOT NULL,
  detail STRING(MAX) NOT NULL,
  from_time TIMESTAMP NOT NULL,
  to_time TIMESTAMP,
  snapshot BOOL NOT NULL,
  found_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
  closed_at TIMESTAMP OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (pipeline, incarnation),
  INTERLEAVE IN PARENT spanledger_pipelines ON DELETE CASCADE;

CREATE TABLE IF NOT EXISTS spanledger_workers (
  pipeline STRING(64) NOT NULL,
  worker STRING(512) NOT NULL,
  epoch INT64 NOT NULL,
  started_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
  renewed_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (pipeline, worker);

CREATE TABLE IF NOT EXISTS spanledger_partitions (
  pipeline STRING(64) NOT NULL,
  incarnation INT64 NOT NULL,
  token STRING(MAX) NOT NULL,
  parents ARRAY<STRING(MAX)> NOT NULL,
  start_time TIMESTAMP NOT NULL,
  end_time TIMESTAMP,
  state STRING(16) NOT NULL,
  owner STRING(512) NOT NULL,
  epoch INT64 NOT NULL,
  created_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
  finished_at TIMESTAMP OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (pipeline, incarnation, token),
  ROW DELETION POLICY (OLDER_THAN(finished_at, INTERVAL 31 DAY));

CREATE INDEX IF NOT EXISTS spanledger_partitions_by_state ON spanledger_partitions (pipeline, incarnation, state);

CREATE TABLE IF NOT EXISTS spanledger_progress (
  pipeline STRING(64) NOT NULL,
  incarnation INT64 NOT NULL,
  token STRING(MAX) NOT NULL,
  sink STRING(128) NOT NULL,
  through_time TIMESTAMP NOT NULL,
  chains JSON,
  updated_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (pipeline, incarnation, token, sink),
  INTERLEAVE IN PARENT spanledger_partitions ON DELETE CASCADE;

CREATE TABLE IF NOT EXISTS spanledger_snapshots (
  pipeline STRING(64) NOT NULL,
  incarnation INT64 NOT NULL,
  number INT64 NOT NULL,
  table_name STRING(512) NOT NULL,
  from_key STRING(MAX) NOT NULL,
  to_key STRING(MAX) NOT NULL,
  state STRING(16) NOT NULL,
  error STRING(MAX) NOT NULL,
  cursor_key STRING(MAX) NOT NULL,
  read_all BOOL NOT NULL,
  chunks JSON,
  total_rows INT64 NOT NULL,
  handed_rows INT64 NOT NULL,
  dropped_rows INT64 NOT NULL,
  chunks_anew INT64 NOT NULL,
  requested_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
  changed_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (pipeline, incarnation, number),
  INTERLEAVE IN PARENT spanledger_incarnations ON DELETE CASCADE;

CREATE TABLE IF NOT EXISTS spanledger_segments (
  pipeline STRING(64) NOT NULL,
  sink STRING(128) NOT NULL,
  incarnation INT64 NOT NULL,
  token STRING(MAX) NOT NULL,
  table_name STRING(512) NOT NULL,
  first_position STRING(MAX) NOT NULL,
  last_position STRING(MAX) NOT NULL,
  object STRING(MAX) NOT NULL,
  generation INT64 NOT NULL,
  changes INT64 NOT NULL,
  size_bytes INT64 NOT NULL,
  sha256 STRING(MAX) NOT NULL,
  fingerprint STRING(MAX) NOT NULL,
  previous_sha256 STRING(MAX) NOT NULL,
  created_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (pipeline, sink, incarnation, token, table_name, first_position);

CREATE TABLE IF NOT EXISTS spanledger_schemas (
  pipeline STRING(64) NOT NULL,
  table_name STRING(512) NOT NULL,
  version INT64 NOT NULL,
  columns JSON NOT NULL,
  updated_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (pipeline, table_name);

CREATE TABLE IF NOT EXISTS spanledger_elections (
  pipeline STRING(64) NOT NULL,
  duty STRING(256) NOT NULL,
  worker STRING(512) NOT NULL,
  epoch INT64 NOT NULL,
  note JSON,
  elected_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
  renewed_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (pipeline, duty);

CREATE TABLE IF NOT EXISTS spanledger_dead_letters (
  pipeline STRING(64) NOT NULL,
  incarnation INT64 NOT NULL,
  token STRING(MAX) NOT NULL,
  sink STRING(128) NOT NULL,
  position STRING(MAX) NOT NULL,
  table_name STRING(512) NOT NULL,
  row_key JSON NOT NULL,
  change BYTES(MAX) NOT NULL,
  status STRING(16) NOT NULL,
  reason STRING(MAX) NOT NULL,
  attempts INT64 NOT NULL,
  created_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
  updated_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (pipeline, incarnation, token, sink, position);
