package changes

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

func TestRetentionRemovesRecords(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		at := b.ddl(all("S"))
		token := b.tokens(at)[0]
		b.commit(insert(tableT, rowT(1, "", 1)))
		r, err := b.log.Move("S", token, 0)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(DefaultRetention + time.Second)
		b.commit(insert(tableT, rowT(2, "", 1)))
		now := time.Now().UnixMicro()
		_, err = b.tryRead(query(now-1000, now, token))
		wantCode(t, err, codes.OutOfRange) // all its records expired
		ps, err := b.log.Partitions("S")
		if err != nil || len(ps) != 1 || ps[0].Token != r.Tokens[0] {
			t.Fatalf("retained partitions: %v, %v", ps, err)
		}
		if s := b.log.streams["S"]; len(s.retained) != 1 || len(s.parts) != 1 || len(s.ended) != 0 {
			t.Errorf("%d records retained in %d partitions", len(s.retained), len(s.parts))
		}
	})
}

func TestRetentionLoweredWhileReading(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		at := b.ddl(all("S"))
		token := b.tokens(at)[0]
		for i := range int64(2 * batchSize) {
			b.commit(insert(tableT, rowT(i, "", 1)))
		}
		time.Sleep(48 * time.Hour)
		n := 0
		err := b.log.Query(context.Background(), query(at, 0, token), func(Record) error {
			if n++; n == 1 {
				b.ddl(all("S", "retention_period", "1d"))
			}
			return nil
		})
		wantCode(t, err, codes.OutOfRange)
	})
}

func TestMaxBytes(t *testing.T) {
	inBubble(t, Options{MaxBytes: 10_000}, func(t *testing.T, b *bench) {
		at := b.ddl(all("S"))
		token := b.tokens(at)[0]
		var last int64
		for i := range int64(100) {
			last = b.commit(insert(tableT, rowT(i, strings.Repeat("x", 1000), 1)))
		}
		_, err := b.tryRead(query(at, last, token))
		wantCode(t, err, codes.OutOfRange)
		if n := len(b.data(last, last, token)); n != 1 {
			t.Errorf("%d rows at the newest commit", n)
		}
		if s := b.log.streams["S"]; s.bytes > 10_000 || len(s.retained) < 5 {
			t.Errorf("%d bytes in %d records", s.bytes, len(s.retained))
		}
	})
}
