package bigquerysink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/bigquery"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
)

// tables knows the layouts of the tables' versions. What it knows of a table, BigQuery has.
type tables struct {
	mu     sync.Mutex
	byName map[string]*tableState
}

// tableState is one Spanner table's. Its lock is held while BigQuery is asked, so that lanes do not race one another.
type tableState struct {
	mu      sync.Mutex
	layouts map[*change.Table]*layout
}

func (t *tables) init() { t.byName = make(map[string]*tableState) }

func (t *tables) state(name string) *tableState {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.byName[name]
	if s == nil {
		s = &tableState{layouts: make(map[*change.Table]*layout)}
		t.byName[name] = s
	}
	return s
}

// maxLayouts bounds the versions of one table remembered; a table that is altered more often is looked at again.
const maxLayouts = 64

// layout gives the layout of a table's version, for which it makes the table or adds columns where they lack.
func (s *core) layout(ctx context.Context, t *change.Table) (*layout, error) {
	state := s.tables.state(t.Name)
	state.mu.Lock()
	defer state.mu.Unlock()
	if l := state.layouts[t]; l != nil {
		return l, nil
	}
	l, err := s.ensure(ctx, t)
	if err != nil {
		return nil, err
	}
	if len(state.layouts) >= maxLayouts {
		clear(state.layouts)
	}
	state.layouts[t] = l
	return l, nil
}

// forget makes the next call of layout look again: BigQuery said something that does not agree with what was known.
func (s *core) forget(table string) {
	state := s.tables.state(table)
	state.mu.Lock()
	clear(state.layouts)
	state.mu.Unlock()
}

// ensureAttempts bounds the rounds of a race with other workers for one table; each round that is lost was another's gain.
const ensureAttempts = 10

// restTimeout bounds calls of the REST API, which the client library repeats without a word for as long as it may: the
// engine's retries are visible.
const restTimeout = 20 * time.Second

// schemaRetry is how long the engine waits where BigQuery needs time to show a new table or column to its writers.
const schemaRetry = 2 * time.Second

func (s *core) ensure(ctx context.Context, t *change.Table) (*layout, error) {
	ctx, cancel := context.WithTimeout(ctx, restTimeout)
	defer cancel()
	id := TableID(s.config.TablePrefix, t.Name)
	table := s.client.Dataset(s.config.Dataset).Table(id)
	for range ensureAttempts {
		meta, err := table.Metadata(ctx)
		switch {
		case isStatus(err, 404):
			if err := s.create(ctx, table, t); err != nil && !isStatus(err, 409) {
				return nil, s.fault("make table "+id, err)
			}
			continue
		case err != nil:
			return nil, s.fault("look at table "+id, err)
		}
		if err := isChangelog(meta); err != nil {
			return nil, sinks.Stop(fmt.Errorf("bigquery sink %s: table %s.%s.%s is not a changelog this sink can write: %w: rename it, or choose another table_prefix",
				s.name, s.config.Project, s.config.Dataset, id, err))
		}
		l, add, err := plan(t, meta.Schema)
		if err != nil {
			return nil, sinks.Stop(fmt.Errorf("bigquery sink %s: %w", s.name, err))
		}
		if len(add) == 0 {
			l.name = s.tableName(id)
			return l, nil
		}
		// The etag guards the patch: it replaces the whole schema, and must not undo another worker's.
		_, err = table.Update(ctx, bigquery.TableMetadataToUpdate{Schema: append(slices.Clone(meta.Schema), add...)}, meta.ETag)
		if err != nil && !isStatus(err, 412) {
			return nil, s.fault(fmt.Sprintf("add %d columns to table %s", len(add), id), err)
		}
	}
	return nil, sinks.Retry(fmt.Errorf("bigquery sink %s: table %s is being altered by others without end", s.name, id), schemaRetry)
}

// create makes the table with all columns of the version, key columns first.
func (s *core) create(ctx context.Context, table *bigquery.Table, t *change.Table) error {
	l, add, err := plan(t, metaSchema())
	if err != nil {
		return err
	}
	var key, clustering []string
	for _, c := range l.key {
		key = append(key, c.field)
		if c.kind.clusterable() && !c.repeated && len(clustering) < 4 {
			clustering = append(clustering, c.field)
		}
	}
	slices.SortStableFunc(add, func(a, b *bigquery.FieldSchema) int {
		ka, kb := slices.Contains(key, a.Name), slices.Contains(key, b.Name)
		switch {
		case ka == kb:
			return 0
		case ka:
			return -1
		}
		return 1
	})
	meta := &bigquery.TableMetadata{
		Schema:           append(metaSchema(), add...),
		Description:      describeTable(t.Name),
		Labels:           map[string]string{label: labelChangelog},
		TimePartitioning: &bigquery.TimePartitioning{Type: bigquery.DayPartitioningType, Field: "_commit_timestamp"},
	}
	if len(clustering) > 0 {
		meta.Clustering = &bigquery.Clustering{Fields: clustering}
	}
	return table.Create(ctx, meta)
}

// describeTable is a table's description: Spanner's name stands between the grave accents, for readers.
func describeTable(name string) string {
	return "Every change of the Spanner table `" + name + "`, one row each, written by Spanledger. ORDER BY _position is the order of the changes."
}

// label marks the tables this sink made, for people and for other tools.
const (
	label          = "spanledger"
	labelChangelog = "changelog"
	labelClaim     = "chain"
)

// isChangelog says what of the position columns a table lacks.
func isChangelog(meta *bigquery.TableMetadata) error {
	for _, m := range metaColumns {
		i := slices.IndexFunc(meta.Schema, func(f *bigquery.FieldSchema) bool { return strings.EqualFold(f.Name, m.name) })
		if i < 0 {
			return fmt.Errorf("it has no column %s", m.name)
		}
		if f := meta.Schema[i]; f.Type != kinds[m.kind].field || f.Repeated != m.repeated {
			return fmt.Errorf("its column %s is a %s", m.name, f.Type)
		}
	}
	if meta.Type != bigquery.RegularTable && meta.Type != "" {
		return errors.New("it is a " + string(meta.Type))
	}
	return nil
}
