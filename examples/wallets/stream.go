package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"cloud.google.com/go/spanner"
	"google.golang.org/api/iterator"
)

// changeRecord is one row of a change stream, as far as this program looks at it.
type changeRecord struct {
	Data []*struct {
		Commit time.Time `spanner:"commit_timestamp"`
		Mods   []*struct {
			Keys spanner.NullJSON `spanner:"keys"`
			New  spanner.NullJSON `spanner:"new_values"`
			Old  spanner.NullJSON `spanner:"old_values"`
		} `spanner:"mods"`
	} `spanner:"data_change_record"`
	Children []*children `spanner:"child_partitions_record"`
}

type children struct {
	Start      time.Time `spanner:"start_timestamp"`
	Partitions []*struct {
		Token   string   `spanner:"token"`
		Parents []string `spanner:"parent_partition_tokens"`
	} `spanner:"child_partitions"`
}

// partition waits until all its parents have been read.
type partition struct {
	token   string
	start   time.Time
	parents []string
}

// compare replays the change stream and looks whether it leads to what the table holds.
func compare(ctx context.Context, client *spanner.Client, start time.Time) error {
	// Both bounds are inclusive: what the table holds at end is the sum of all changes up to it.
	read := client.ReadOnlyTransaction().WithTimestampBound(spanner.StrongRead())
	defer read.Close()
	held, total := map[int64]int64{}, int64(0)
	if err := read.Read(ctx, "wallets", spanner.AllKeys(), []string{"id", "cents"}).Do(func(row *spanner.Row) error {
		var id, cents int64
		err := row.Columns(&id, &cents)
		held[id] = cents
		total += cents
		return err
	}); err != nil {
		return err
	}
	end, err := read.Timestamp()
	if err != nil {
		return err
	}
	if total != wallets*opening {
		return fmt.Errorf("the wallets hold %d cents, not %d", total, wallets*opening)
	}

	replay := replay{cents: map[int64]int64{}, last: map[int64]time.Time{}}
	var waiting []partition
	done := map[string]bool{}
	partitions, err := readRows(ctx, client, start, end, nil, replay.take)
	if err != nil {
		return err
	}
	for waiting = append(waiting, partitions...); len(waiting) > 0; {
		// The earliest first: a parent that has not been announced yet is one of a partition that began before.
		slices.SortFunc(waiting, func(a, b partition) int { return a.start.Compare(b.start) })
		i := slices.IndexFunc(waiting, func(p partition) bool {
			return !slices.ContainsFunc(waiting, func(o partition) bool { return slices.Contains(p.parents, o.token) })
		})
		if i < 0 {
			return errors.New("every partition waits for another")
		}
		p := waiting[i]
		waiting = slices.Delete(waiting, i, i+1)
		if done[p.token] {
			continue // both parents of a merge announce it
		}
		done[p.token] = true
		found, err := readRows(ctx, client, p.start, end, &p.token, replay.take)
		if err != nil {
			return err
		}
		waiting = append(waiting, found...)
	}
	for id, cents := range held {
		if replay.cents[id] != cents {
			return fmt.Errorf("wallet %d holds %d cents, and %d by its changes", id, cents, replay.cents[id])
		}
	}
	fmt.Printf("%d transfers between %d wallets: not a cent lost\n", clerks*transfers, wallets)
	fmt.Printf("change stream: %d changes in %d partitions lead to the same balances, each after the one before it\n", replay.changes, len(done))
	if want := wallets + 2*clerks*transfers; replay.changes != want {
		return fmt.Errorf("%d changes, want %d", replay.changes, want)
	}
	return nil
}

// replay is what the changes seen so far have made of the wallets.
type replay struct {
	changes int
	cents   map[int64]int64
	last    map[int64]time.Time
}

func (r *replay) take(record *changeRecord) error {
	for _, d := range record.Data {
		for _, m := range d.Mods {
			id, err := number(m.Keys, "id")
			if err != nil {
				return err
			}
			cents, err := number(m.New, "cents")
			if err != nil {
				return err
			}
			if old, err := number(m.Old, "cents"); err == nil && old != r.cents[id] {
				return fmt.Errorf("wallet %d had %d cents before its change of %v, and %d by the changes before", id, old, d.Commit, r.cents[id])
			}
			if !d.Commit.After(r.last[id]) {
				return fmt.Errorf("wallet %d: a change of %v came after that of %v", id, d.Commit, r.last[id])
			}
			r.cents[id], r.last[id] = cents, d.Commit
			r.changes++
		}
	}
	return nil
}

// number takes an INT64, which Spanner's JSON writes as a string.
func number(j spanner.NullJSON, name string) (int64, error) {
	object, ok := j.Value.(map[string]any)
	if !ok {
		return 0, fmt.Errorf("no object: %v", j)
	}
	text, ok := object[name].(string)
	if !ok {
		return 0, fmt.Errorf("no %s in %v", name, j)
	}
	return strconv.ParseInt(text, 10, 64)
}

// readRows reads one partition, or with no token the list of partitions, and returns the partitions it announces.
func readRows(ctx context.Context, client *spanner.Client, start, end time.Time, token *string, fn func(*changeRecord) error) (found []partition, err error) {
	rows := client.Single().Query(ctx, spanner.Statement{
		SQL:    "SELECT ChangeRecord FROM READ_everything(@start, @end, @token, 1000)",
		Params: map[string]any{"start": start, "end": end, "token": token},
	})
	defer rows.Stop()
	for {
		row, err := rows.Next()
		if errors.Is(err, iterator.Done) {
			return found, nil
		}
		var column struct{ ChangeRecord []*changeRecord }
		if err == nil {
			err = row.ToStructLenient(&column) // there are more fields than this program asks for
		}
		if err != nil {
			return nil, err
		}
		for _, record := range column.ChangeRecord {
			if err := fn(record); err != nil {
				return nil, err
			}
			for _, c := range record.Children {
				for _, p := range c.Partitions {
					found = append(found, partition{p.Token, c.Start, p.Parents})
				}
			}
		}
	}
}
