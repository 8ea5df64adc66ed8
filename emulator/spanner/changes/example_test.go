package changes_test

import (
	"context"
	"fmt"
	"time"

	"github.com/spanledger/spanledger/emulator/spanner/changes"
	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// A stream is told of, a row is inserted, and the one partition is read up to that commit.
func Example() {
	table := &store.Table{
		Name:    "Orders",
		Columns: []store.Column{{Name: "Id", Type: &store.Type{Code: store.Int64}, Ordinal: 1}},
		Key:     []store.KeyPart{{Column: 0}},
	}
	at := time.Now().Add(-time.Second).UnixMicro()
	log := changes.New(changes.Options{})
	defer log.Close()
	if err := log.ObserveSchema([]*store.ChangeStream{{Name: "OrderStream", All: true, Created: at}}, at); err != nil {
		fmt.Println(err)
		return
	}
	row := store.Row{{Valid: true, Int: 42}}
	log.Observe(&store.Commit{Timestamp: at + 1, TransactionID: "7", Changes: []store.RowChange{
		{Table: table, Key: table.KeyOf(row), Op: store.Insert, New: row},
	}})

	partitions, err := log.Partitions("OrderStream")
	if err != nil {
		fmt.Println(err)
		return
	}
	q := changes.Query{
		Stream: "OrderStream", Token: &partitions[0].Token, HeartbeatMillis: new(int64(10_000)),
		Start: new(time.UnixMicro(at)), End: new(time.UnixMicro(at + 1)),
	}
	err = log.Query(context.Background(), q, func(r changes.Record) error {
		data := r.Value().GetListValue().Values[0].GetListValue().Values[0].GetListValue().Values[0].GetListValue().Values
		mod := data[6].GetListValue().Values[0].GetListValue().Values
		fmt.Println(r.Kind, data[7].GetStringValue(), data[4].GetStringValue(), mod[0].GetStringValue())
		return nil
	})
	fmt.Println(err)
	// Output:
	// data_change_record INSERT Orders {"Id":"42"}
	// <nil>
}
