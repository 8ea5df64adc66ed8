package state

import (
	"encoding/json"
	"fmt"
	"time"

	"cloud.google.com/go/spanner"
	"github.com/spanledger/spanledger/change"
)

// The columns that are read, in the order of the decode functions below. Columns of commit timestamps are only written.
var (
	headColumns        = []string{"incarnation", "epoch", "claim_worker", "claim_epoch"}
	incarnationColumns = []string{"source_database", "stream", "identity", "config_digest", "start_time", "start_snapshot"}
	partitionColumns   = []string{"token", "parents", "start_time", "end_time", "state", "owner", "epoch"}
	progressColumns    = []string{"token", "sink", "through_time", "chains"}
	segmentColumns     = []string{"incarnation", "token", "table_name", "first_position", "last_position", "object", "generation",
		"changes", "size_bytes", "sha256", "fingerprint", "previous_sha256"}
	schemaColumns = []string{"table_name", "version", "columns"}
)

func decodeHead(row *spanner.Row) (h head, err error) {
	return h, row.Columns(&h.incarnation, &h.epoch, &h.claimWorker, &h.claimEpoch)
}

func decodeIncarnation(row *spanner.Row) (c Config, err error) {
	var start time.Time
	err = row.Columns(&c.Database, &c.Stream, &c.Identity, &c.Digest, &start, &c.Snapshot)
	c.Start = change.TimestampOf(start)
	return c, err
}

func decodePartition(row *spanner.Row) (p Partition, err error) {
	var start time.Time
	var end spanner.NullTime
	var state string
	if err = row.Columns(&p.Token, &p.Parents, &start, &end, &state, &p.Owner, &p.Epoch); err != nil {
		return p, err
	}
	if len(p.Parents) == 0 {
		p.Parents = nil
	}
	p.Start, p.State = change.TimestampOf(start), PartitionState(state)
	if end.Valid {
		p.End = change.TimestampOf(end.Time)
	}
	if p.State != Open && p.State != Finished {
		return p, fmt.Errorf("partition %s has the state %q, which this version does not know: use the version that wrote it", p.Token, state)
	}
	return p, nil
}

func decodeProgress(row *spanner.Row) (p Progress, err error) {
	var through time.Time
	var chains jsonText
	if err = row.Columns(&p.Token, &p.Sink, &through, &chains); err != nil {
		return p, err
	}
	p.Through = change.TimestampOf(through)
	if p.Chains, err = decodeChains(chains); err != nil {
		return p, fmt.Errorf("chains of sink %s in partition %s: %w", p.Sink, p.Token, err)
	}
	return p, nil
}

func decodeSegment(row *spanner.Row) (s change.Segment, err error) {
	var first, last string
	err = row.Columns(&s.Chain.Incarnation, &s.Chain.Token, &s.Chain.Table, &first, &last, &s.Name, &s.Generation,
		&s.Count, &s.Bytes, &s.SHA256, &s.Fingerprint, &s.Previous)
	if err != nil {
		return s, err
	}
	if s.First, err = change.ParsePosition(first); err != nil {
		return s, fmt.Errorf("segment %s: %w", s.Name, err)
	}
	if s.Last, err = change.ParsePosition(last); err != nil {
		return s, fmt.Errorf("segment %s: %w", s.Name, err)
	}
	return s, nil
}

func decodeTable(row *spanner.Row) (*change.Table, error) {
	var name string
	var version int64
	var text jsonText
	if err := row.Columns(&name, &version, &text); err != nil {
		return nil, err
	}
	var columns []change.Column
	if err := json.Unmarshal(text, &columns); err != nil {
		return nil, fmt.Errorf("schema of table %s: %w", name, err)
	}
	return change.NewTable(name, int(version), columns), nil
}

// jsonText is the text of a JSON column, nil for NULL: read straight into its own type instead of through maps.
type jsonText []byte

// DecodeSpanner implements spanner.Decoder.
func (t *jsonText) DecodeSpanner(in any) error {
	switch v := in.(type) {
	case nil:
		*t = nil
	case string:
		*t = jsonText(v)
	case *string:
		*t = nil
		if v != nil {
			*t = jsonText(*v)
		}
	default:
		return fmt.Errorf("a JSON column came as %T", in)
	}
	return nil
}

// EncodeSpanner implements spanner.Encoder.
func (t jsonText) EncodeSpanner() (any, error) {
	return spanner.NullJSON{Value: json.RawMessage(t), Valid: t != nil}, nil
}

// storedChain is the stored form of a ChainEnd.
type storedChain struct {
	Table   string          `json:"table"`
	Through change.Position `json:"through"`
	State   []byte          `json:"state,omitempty"`
}

// maxChains bounds the text of a partition's chains in one sink, below the 10 MiB of a Spanner cell.
const maxChains = 8 << 20

// encodeChains is NULL for no chains.
func encodeChains(chains []ChainEnd) (jsonText, error) {
	if len(chains) == 0 {
		return nil, nil
	}
	list := make([]storedChain, len(chains))
	for i, c := range chains {
		list[i] = storedChain(c)
	}
	text, err := json.Marshal(list)
	if err == nil && len(text) > maxChains {
		err = fmt.Errorf("the ends of its %d chains take %d bytes, more than %d: read fewer tables in one pipeline", len(chains), len(text), maxChains)
	}
	return text, err
}

func decodeChains(text jsonText) ([]ChainEnd, error) {
	if text == nil {
		return nil, nil
	}
	var list []storedChain
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, err
	}
	chains := make([]ChainEnd, len(list))
	for i, c := range list {
		// The merge of new ends relies on the order.
		if i > 0 && c.Table <= list[i-1].Table {
			return nil, fmt.Errorf("table %q follows %q: they are not in order, something else wrote them", c.Table, list[i-1].Table)
		}
		chains[i] = ChainEnd(c)
	}
	return chains, nil
}
