package bigquerysink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"cloud.google.com/go/bigquery"

	"github.com/spanledger/spanledger/change"
)

// claim says which write stream is a chain's, and where the chain ended when it became that. It is the description of an
// empty table named after the chain: BigQuery makes such a table once only, and changes it only for who knows its etag.
type claim struct {
	Version     int    `json:"v"`
	Pipeline    string `json:"pipeline"`
	Incarnation int64  `json:"incarnation"`
	Table       string `json:"table"`
	Stream      string `json:"stream"`
	// Base is the chain's end at the stream's offset 0; empty for none. It is left out if it is too long, and then the
	// stream's count of rows cannot be compared with the table's.
	Base     change.Position `json:"base,omitzero"`
	Unknown  bool            `json:"base_unknown,omitempty"`
	Sequence int64           `json:"n"` // how often the chain has changed hands
	Note     string          `json:"note"`

	etag string
}

const (
	claimNote = "Spanledger: which write stream appends to a chain. Leave it until the pipeline is gone."
	// longestBase keeps the description below BigQuery's bound for a table's, 16,384 characters.
	longestBase = 12_000
	// claimLife is when BigQuery drops a claim that nobody changed: partitions end, and their claims with them. A chain that
	// lives longer finds its stream in its state.
	claimLife = 180 * 24 * time.Hour
)

// errClaimed says that another writer was faster.
var errClaimed = errors.New("the chain changed hands meanwhile")

func (s *core) claimTable(chain change.Chain) *bigquery.Table {
	return s.client.Dataset(s.config.Dataset).Table(claimID(s.config.TablePrefix, chain))
}

// readClaim gives the chain's claim, nil if it has none.
func (s *core) readClaim(ctx context.Context, chain change.Chain) (*claim, error) {
	ctx, cancel := context.WithTimeout(ctx, restTimeout)
	defer cancel()
	meta, err := s.claimTable(chain).Metadata(ctx)
	if isStatus(err, 404) {
		return nil, nil
	}
	if err != nil {
		return nil, s.fault("read the claim of a chain of table "+chain.Table, err)
	}
	var c claim
	if err := json.Unmarshal([]byte(meta.Description), &c); err != nil || c.Version != 1 || c.Stream == "" {
		return nil, fmt.Errorf("bigquery sink %s: the description of table %s in %s.%s is not a claim: if it was altered by hand, drop the table: "+
			"the changelog's own positions then tell where the chain ends (%v)", s.name, claimID(s.config.TablePrefix, chain), s.config.Project, s.config.Dataset, err)
	}
	c.etag = meta.ETag
	return &c, nil
}

// writeClaim makes stream the chain's, which ends at base, if old is still its claim; nil old means it has none. Once it
// returns nil no other writer can become the chain's without knowing of this one.
func (s *core) writeClaim(ctx context.Context, chain change.Chain, old *claim, stream string, base change.Position) error {
	c := claim{
		Version: 1, Pipeline: chain.Pipeline, Incarnation: chain.Incarnation, Table: chain.Table,
		Stream: stream, Base: base, Note: claimNote,
	}
	if len(base.String()) > longestBase {
		c.Base, c.Unknown = change.Position{}, true
	}
	if old != nil {
		c.Sequence = old.Sequence + 1
	}
	text, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("bigquery sink %s: claim of a chain of table %s: %w", s.name, chain.Table, err)
	}
	expires := time.Now().Add(claimLife)
	table := s.claimTable(chain)
	callCtx, cancel := context.WithTimeout(ctx, restTimeout)
	defer cancel()
	if old == nil {
		err = table.Create(callCtx, &bigquery.TableMetadata{
			Description: string(text), Labels: map[string]string{label: labelClaim}, ExpirationTime: expires,
		})
	} else {
		_, err = table.Update(callCtx, bigquery.TableMetadataToUpdate{Description: string(text), ExpirationTime: expires}, old.etag)
	}
	if err == nil {
		return nil
	}
	// Whatever it said, it may have been done: an answer lost inside the client library shows as "there already".
	now, readErr := s.readClaim(ctx, chain)
	switch {
	case readErr == nil && now != nil && now.Stream == stream:
		return nil
	case isStatus(err, 409), isStatus(err, 412), isStatus(err, 404):
		return errClaimed
	}
	return s.fault("claim a chain of table "+chain.Table, err)
}
